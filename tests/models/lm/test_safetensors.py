"""Parameters survive a file, and files of another model are refused by name."""

import json
import struct
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loomax.models.lm import create, shapes
from loomax.models.lm.config import RopeConfig
from loomax.models.lm.presets import yoco_debug
from loomax.models.lm.safetensors import by_name, load, read_config, save

CONFIG = replace(yoco_debug(), rope=RopeConfig(theta=5e3, rescale=(1.0, 2.0)))


@pytest.fixture(scope="module")
def params():
    return create(CONFIG, key=jax.random.key(0))


@pytest.fixture(scope="module")
def file(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    save(path, CONFIG, params)
    return path


def rewritten(file, target, change):
    """A copy of `file` whose dictionary of arrays went through `change`."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, target, metadata={"config": "{}"})
    return target


def refusal(path, config=CONFIG):
    with pytest.raises(ValueError) as caught:
        load(path, config)
    return str(caught.value)


def test_parameters_and_configuration_come_back(params, file):
    assert read_config(file) == CONFIG
    again = load(file, CONFIG)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_a_file_from_before_a_field_means_what_was_done_then(params, tmp_path):
    """RMSNorm had 1e-6 and YaRN rose with rotations before either could be chosen."""
    held = asdict(CONFIG)
    del held["norm_epsilon"], held["delta"], held["rope"]["ramp"], held["rope"]["truncate"]
    path = tmp_path / "old.safetensors"
    tensors = {name: np.asarray(leaf) for name, leaf in by_name(params).items()}
    save_file(tensors, path, metadata={"config": json.dumps(held)})
    old = read_config(path)
    assert (old.norm_epsilon, old.rope.ramp) == (1e-6, "rotations")
    assert old == replace(CONFIG, norm_epsilon=1e-6, rope=replace(CONFIG.rope, ramp="rotations"))


def test_the_file_is_plain(params, file):
    """By the format's own definition: 8 bytes of length, a JSON header, then the bytes."""
    raw = file.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    entry = header["self_layers.mixer.q"]
    start, end = entry["data_offsets"]
    stored = np.frombuffer(raw[8 + size :][start:end], "<f4").reshape(entry["shape"])
    np.testing.assert_array_equal(stored, params["self_layers"]["mixer"]["q"])
    assert json.loads(header["__metadata__"]["config"])["width"] == 16
    assert list(file.parent.iterdir()) == [file]


def test_bfloat16_is_kept_and_converted(params, tmp_path):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    save(tmp_path / "half", CONFIG, half)
    wide = load(tmp_path / "half", CONFIG)
    kept = load(tmp_path / "half", replace(CONFIG, param_dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype(jnp.bfloat16)}
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(jnp.float32)), wide, half)


def test_parameters_go_where_they_are_told(file):
    device = jax.devices()[3]
    where = jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(device), shapes(CONFIG))
    held = load(file, CONFIG, where)
    assert {leaf.device for leaf in jax.tree.leaves(held)} == {device}


def test_another_width_is_refused(file):
    said = refusal(file, replace(CONFIG, width=24))
    assert said.startswith(f"{file} is not of this model: ")
    assert "cross_layers.hidden.down: expected [2, 24, 24], got [2, 24, 16]" in said
    assert said.endswith("more")


def test_missing_and_unknown_tensors_are_refused(file, tmp_path):
    def change(tensors):
        tensors["extra.bias"] = tensors.pop("norm")

    said = refusal(rewritten(file, tmp_path / "other", change))
    assert "extra.bias: expected nothing, got [16]" in said
    assert "norm: expected [16], got nothing" in said


def test_mixed_dtypes_are_refused(params, file, tmp_path):
    def change(tensors):
        tensors["norm"] = tensors["norm"].astype(np.float16)

    said = refusal(rewritten(file, tmp_path / "mixed", change))
    assert "mixes dtypes (cross_layers.hidden.down is float32, norm is float16)" in said
    mixed = params | {"norm": params["norm"].astype(jnp.bfloat16)}
    with pytest.raises(ValueError, match="norm is bfloat16"):
        save(tmp_path / "never", CONFIG, mixed)
    assert not (tmp_path / "never").exists()


def test_numbers_that_are_no_floats_are_refused(file, tmp_path):
    def change(tensors):
        tensors.update({name: x.astype(np.int32) for name, x in tensors.items()})

    said = refusal(rewritten(file, tmp_path / "whole", change))
    assert "cross_layers.hidden.down is I32; use one of float32" in said


@pytest.mark.parametrize("kept", [0, 20, -1])
def test_a_truncated_file_is_refused(file, tmp_path, kept):
    (tmp_path / "cut").write_bytes(file.read_bytes()[:kept])
    assert "cut is not a whole safetensors file" in refusal(tmp_path / "cut")


def test_a_missing_file_and_a_foreign_header_are_refused(params, tmp_path):
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} does not exist"
    save_file({name: np.asarray(x) for name, x in by_name(params).items()}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="has no configuration in its header"):
        read_config(tmp_path / "foreign")
    load(tmp_path / "foreign", CONFIG)


def test_parameters_of_another_model_are_not_written(params, tmp_path):
    with pytest.raises(ValueError, match=r"embedding: expected \[37, 32\], got \[37, 16\]"):
        save(tmp_path / "never", replace(CONFIG, width=32), params)
