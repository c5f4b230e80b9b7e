"""Checkpoints: what comes back, what is refused, and what a crash leaves."""

import collections
import errno
import json
import logging
import resource
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint.experimental import v1 as ocp

from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.mesh import MeshConfig, batch_sharding, make_mesh, replicated


def make_state(scale: float = 1.0) -> dict:
    mesh = make_mesh(MeshConfig())
    params = {"w": jnp.arange(12.0).reshape(3, 4) * scale, "b": jnp.ones(4, jnp.bfloat16) * scale}
    return {
        "params": params,
        "opt": optax.adam(1e-3).init(params),
        "key": jax.random.key(7),
        "keys": jax.random.split(jax.random.key(8), 8),
        "envs": jax.device_put(jnp.arange(16, dtype=jnp.int32), batch_sharding(mesh)),
        "whole": jax.device_put(jnp.eye(3), replicated(mesh)),
        "empty": jnp.zeros((0, 5)),
    }


def plain(leaf) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def assert_same(left, right) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(plain(a), plain(b))


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_round_trip_keeps_keys_dtypes_and_shardings(tmp_path):
    state = make_state()
    Checkpointer(tmp_path).save(5, state, {"note": "hello", "best": 0.5})
    step, back, meta = Checkpointer(tmp_path).restore(state)
    assert (step, meta) == (5, {"note": "hello", "best": 0.5})
    assert_same(back, state)
    assert back["envs"].sharding == state["envs"].sharding
    assert jax.random.bits(back["key"]) == jax.random.bits(state["key"])


def test_restores_from_shapes_onto_another_mesh(tmp_path):
    state = make_state()
    Checkpointer(tmp_path).save(1, state, {})
    shapes = jax.eval_shape(lambda: state)
    half = make_mesh(MeshConfig(), jax.devices()[:4])
    where = batch_sharding(half)
    shapes["envs"] = jax.ShapeDtypeStruct((16,), jnp.int32, sharding=where)
    _, back, _ = Checkpointer(tmp_path).restore(shapes)
    assert_same(back, state)
    assert back["envs"].sharding == where
    # What was restored without a sharding may join any mesh.
    joined = jax.jit(lambda a, b: a.sum() + b.sum())(back["params"]["w"], back["envs"])
    assert joined == 66 + 120


def test_nothing_saved_is_none(tmp_path):
    assert Checkpointer(tmp_path / "absent").restore(make_state()) is None
    assert Checkpointer(tmp_path / "absent").latest_step() is None


def test_keeps_the_newest_and_drops_lost_futures(tmp_path):
    saver = Checkpointer(tmp_path, keep=2)
    for step in (1, 2, 3, 9):
        saver.save(step, {"x": jnp.float32(step)}, {})
    assert saver.steps() == [3, 9]
    saver.save(4, {"x": jnp.float32(40)}, {})
    assert saver.steps() == [3, 4]
    assert saver.restore({"x": jnp.float32(0)})[1]["x"] == 40


def test_saving_a_step_again_replaces_it(tmp_path):
    saver = Checkpointer(tmp_path)
    saver.save(1, {"x": jnp.float32(1)}, {})
    saver.save(1, {"x": jnp.float32(2)}, {})
    assert saver.restore({"x": jnp.float32(0)})[1]["x"] == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest"])
def test_damaged_newest_is_refused_and_the_previous_used(tmp_path, caplog, damage):
    saver = Checkpointer(tmp_path)
    saver.save(1, make_state(1.0), {"n": 1})
    saver.save(2, make_state(2.0), {"n": 2})
    newest = tmp_path / "step_00000002"
    victim = largest_file(newest / "state")
    content = victim.read_bytes()
    if damage == "truncate":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "remove":
        victim.unlink()
    else:
        (newest / "manifest.json").write_text('{"step": 2, "lea')
    with caplog.at_level(logging.WARNING):
        assert saver.latest_step() == 1
        step, state, meta = saver.restore(make_state())
    assert (step, meta) == (1, {"n": 1})
    assert_same(state, make_state(1.0))
    assert "step_00000002 is damaged and was refused" in caplog.text


def test_all_damaged_is_an_error(tmp_path):
    saver = Checkpointer(tmp_path)
    saver.save(1, {"x": jnp.ones(3)}, {})
    (tmp_path / "step_00000001" / "meta.json").write_text("")
    with pytest.raises(ValueError, match="all 1 checkpoints .* are damaged: remove"):
        saver.restore({"x": jnp.ones(3)})


def test_another_architecture_lists_path_expected_and_got(tmp_path):
    saver = Checkpointer(tmp_path)
    saver.save(1, {"layer": {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}, "old": jnp.ones(1)}, {})
    wanted = {"layer": {"w": jnp.ones((3, 5)), "b": jnp.ones(4, jnp.bfloat16)}, "new": jnp.ones(2)}
    with pytest.raises(ValueError) as caught:
        saver.restore(wanted)
    text = str(caught.value)
    assert "['layer']['w']: expected float32[3, 5], got float32[3, 4]" in text
    assert "['layer']['b']: expected bfloat16[4], got float32[4]" in text
    assert "['new']: expected float32[2], got nothing" in text
    assert "['old']: expected nothing, got float32[1]" in text


def test_leaves_that_are_not_arrays_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\['n'\] is 3: .* use jnp.asarray"):
        Checkpointer(tmp_path).save(1, {"n": 3}, {})


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpointer(tmp_path, keep=0)


KILLED = """
    import os, signal, sys
    import jax, jax.numpy as jnp
    jax.config.update("jax_num_cpu_devices", 1)
    from loomax.runtime import checkpoint
    saver = checkpoint.Checkpointer(sys.argv[1])
    saver.save(1, {"x": jnp.arange(4.0)}, {"n": 1})
    # The process dies after the arrays of the second checkpoint were written, before its rename.
    checkpoint.checksums = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
    saver.save(2, {"x": jnp.arange(4.0) * 2}, {"n": 2})
"""


@pytest.mark.multiprocess
def test_killed_while_writing_leaves_the_previous(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], timeout=120, check=False
    )
    assert done.returncode == -9
    left_over = [path.name for path in tmp_path.iterdir()]
    assert ".writing_00000002" in left_over
    saver = Checkpointer(tmp_path)
    step, state, meta = saver.restore({"x": jnp.zeros(4)})
    assert (step, meta) == (1, {"n": 1})
    np.testing.assert_array_equal(state["x"], np.arange(4.0))
    saver.save(2, state, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000001", "step_00000002"]


def test_manifest_names_every_file(tmp_path):
    Checkpointer(tmp_path).save(3, {"x": jnp.ones(3)}, {})
    folder = tmp_path / "step_00000003"
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert manifest["leaves"] == {"['x']": {"shape": [3], "dtype": "float32"}}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two checkpoints of the same structure, and the bytes of the newer one's files."""
    folder = tmp_path_factory.mktemp("two")
    saver = Checkpointer(folder)
    for step in (1, 2):
        state = {"w": jnp.arange(6.0).reshape(2, 3) * step, "key": jax.random.key(step)}
        saver.save(step, state, {"wall_s": 1.5, "n": step})
    files = [path for path in (folder / "step_00000002").rglob("*") if path.is_file()]
    return saver, {path: path.read_bytes() for path in sorted(files)}


def is_right(saver):
    """Whether what comes back is one of the checkpoints, whole; the step that it is of."""
    step, state, meta = saver.restore({"w": jnp.zeros((2, 3)), "key": jax.random.key(0)})
    np.testing.assert_array_equal(state["w"], np.arange(6.0).reshape(2, 3) * step)
    assert meta == {"wall_s": 1.5, "n": step}
    assert (jax.random.key_data(state["key"]) == jax.random.key_data(jax.random.key(step))).all()
    return step


@pytest.mark.parametrize("sealed", [True, False])
def test_no_flipped_bit_stops_a_run_that_has_an_older_checkpoint(two, sealed):
    saver, files = two
    draw = np.random.default_rng(0)
    names = sorted(files)
    manifest = next(path for path in names if path.name == "manifest.json")
    whole = dict(files)
    if not sealed:
        # As it was written before manifests had a checksum.
        old = json.loads(files[manifest])
        del old["crc32"]
        whole[manifest] = json.dumps(old).encode()
    found = []
    manifest_only = [manifest] * 3
    for number in range(130 if sealed else 65):
        path = [*names, *manifest_only][number % (len(names) + 3)]
        content = bytearray(whole[path])
        if not content:
            continue
        place = int(draw.integers(len(content)))
        content[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(bytes(content))
        manifest.write_bytes(bytes(content) if path == manifest else whole[manifest])
        try:
            found.append((is_right(saver), path.name))
        finally:
            path.write_bytes(files[path])
            manifest.write_bytes(files[manifest])
    assert is_right(saver) == 2
    # What is refused is damaged: hardly any flip leaves the meaning of a file as it was.
    assert sum(step == 1 for step, _ in found) > 0.9 * len(found) > 50


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        '{"step": 2, "leaves": [], "files": {}}',
        '{"step": 2, "leaves": {"x": 3}, "files": {}}',
        '{"step": 2, "leaves": {"x": {"shape": "ab", "dtype": "float32"}}, "files": {}}',
        '{"step": 2, "leaves": {}, "files": []}',
        '{"step": 2, "leaves": {}, "files": {"meta.json": 5}}',
        '{"step": 2, "leaves": {}, "files": {"meta.json": [1]}}',
        '{"step": 2, "leaves": {}, "files": {"../../x": [1, 2]}}',
        '{"step": 2, "leaves": {}, "files": {}, "crc32": 0}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_is_valid_but_wrong_is_damage(two, content, caplog):
    saver, files = two
    manifest = next(path for path in files if path.name == "manifest.json")
    manifest.write_text(content)
    try:
        assert is_right(saver) == 1
        assert "step_00000002 is damaged and was refused" in caplog.text
    finally:
        manifest.write_bytes(files[manifest])


def test_checkpoints_without_a_checksum_of_the_manifest_are_read(two):
    saver, files = two
    manifest = next(path for path in files if path.name == "manifest.json")
    old = json.loads(files[manifest])
    assert old.pop("crc32") > 0
    manifest.write_text(json.dumps(old))
    try:
        assert is_right(saver) == 2
    finally:
        manifest.write_bytes(files[manifest])


def test_another_model_is_told_even_beside_an_older_checkpoint(two):
    with pytest.raises(ValueError, match="is of another model"):
        two[0].restore({"w": jnp.zeros((2, 4)), "key": jax.random.key(0)})


def test_a_checkpoint_that_is_pruned_while_it_is_read_has_a_successor(tmp_path, monkeypatch):
    saver = Checkpointer(tmp_path, keep=1)
    saver.save(1, {"x": jnp.float32(1)}, {})
    load = ocp.load

    def slow(*given):
        if saver.steps() == [1]:
            saver.save(2, {"x": jnp.float32(2)}, {})
        return load(*given)

    monkeypatch.setattr("loomax.runtime.checkpoint.ocp.load", slow)
    step, state, _ = Checkpointer(tmp_path).restore({"x": jnp.float32(0)})
    assert (step, float(state["x"])) == (2, 2.0)


def test_a_disk_without_room_is_told_before_the_work(tmp_path, monkeypatch):
    saver = Checkpointer(tmp_path / "checkpoints", keep=2)
    state = {"x": jax.ShapeDtypeStruct((1000,), jnp.float32)}
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 12_000))
    saver.check_room(state)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 11_999))
    with pytest.raises(OSError, match="12000 bytes are needed for checkpoints, 11999 are free"):
        saver.check_room(state)


def test_a_file_over_the_limit_leaves_nothing_half_written(tmp_path):
    saver = Checkpointer(tmp_path)
    saver.save(1, {"x": jnp.zeros(8)}, {})
    big = {"x": jnp.asarray(np.random.default_rng(0).random(2**18, np.float32))}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            saver.save(2, big, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert saver.restore({"x": jnp.zeros(8)})[0] == 1
