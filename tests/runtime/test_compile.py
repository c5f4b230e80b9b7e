"""Blocks, options per backend, and reports of the compiler."""

import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.runtime import compile as compile_module
from loomax.runtime.aot import uncached
from loomax.runtime.axes import MeshConfig
from loomax.runtime.compile import (
    HBM_BYTES,
    PHYSICS_BLOCK,
    CompileReport,
    map_blocks,
    physics_options,
    report,
    setup_cpu,
    target_platform,
    topology_mesh,
)

CUDA = "jax_plugins.xla_cuda13"


def one(x, y):
    return {"largest": (x * y).max(), "sorted": jnp.sort(x)}


@pytest.mark.parametrize("length", [1, 4, 8])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_blocks_equal_vmap(key, length, platform):
    x, y = jax.random.normal(key, (2, length, 3))
    blocks = jax.jit(map_blocks(one, 4, platform=platform))(x, y)
    whole = jax.vmap(one)(x, y)
    jax.tree.map(np.testing.assert_array_equal, blocks, whole)


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("tpu", 0), ("gpu", 0)])
def test_only_cpu_walks_through_blocks(platform, loops):
    x = jnp.ones((8, 3))
    program = str(jax.make_jaxpr(map_blocks(one, 4, platform=platform))(x, x))
    assert program.count("scan[") == loops


def test_blocks_must_divide():
    x = jnp.ones((10, 3))
    with pytest.raises(ValueError, match="a batch of 10 does not divide into blocks of 4"):
        map_blocks(one, 4)(x, x)
    with pytest.raises(ValueError, match="leading axes .* differ"):
        map_blocks(one, 5)(x, x[:5])
    with pytest.raises(ValueError, match="block is 0"):
        map_blocks(one, 0)


def test_physics_options_are_accepted_by_this_backend():
    assert physics_options("tpu") == {} == physics_options("gpu")
    assert jax.jit(lambda x: x + 1, compiler_options=physics_options())(1) == 2
    assert PHYSICS_BLOCK <= 64  # where batched LAPACK begins to split, and may deadlock


@pytest.mark.parametrize("version", [(0, 10, 2), (0, 11, 0), (0, 11, 2), (0, 12, 0, 1), (1, 0, 0)])
def test_only_jax_0_10_knows_the_option(version):
    known = version[:2] == (0, 10)
    options = {"xla_cpu_use_fusion_emitters": False} if known else {}
    assert physics_options("cpu", version=version) == options


def test_the_option_is_given_where_this_jax_knows_it():
    """Asked of the compiler itself, so that no version of JAX slips between the two stacks."""
    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(1)
    except jax.errors.JaxRuntimeError:
        options = {}
    assert physics_options() == options


def test_platform_is_that_of_the_abstract_mesh():
    assert target_platform() == "cpu"
    device = jax.sharding.AbstractDevice("TPU v5 lite", 1, platform="tpu")
    mesh = jax.sharding.AbstractMesh((1,), ("a",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert target_platform() == "tpu" and physics_options() == {}


def test_report_counts_what_the_program_holds():
    n = 64

    def step(state, w):
        return state @ w @ w

    x = jnp.ones((n, n))
    compiled = jax.jit(step, donate_argnums=0).lower(x, x).compile()
    found = report(compiled)
    matrix = n * n * 4
    assert found.argument_bytes == 2 * matrix
    assert found.output_bytes == found.alias_bytes == matrix
    assert found.temp_bytes >= matrix
    assert found.peak_bytes == 2 * matrix + found.temp_bytes
    assert found.flops == pytest.approx(2 * 2 * n**3, rel=0.05)
    assert found.fits(found.peak_bytes) and not found.fits(found.peak_bytes - 1)


class Prefetching:
    """A compiled program with two asynchronous prefetches, as the TPU compiler words them."""

    def memory_analysis(self):
        class Sizes:
            argument_size_in_bytes = 100
            output_size_in_bytes = 50
            alias_size_in_bytes = 20
            temp_size_in_bytes = 7

        return Sizes()

    def cost_analysis(self):
        return {"flops": 5.0, "bytes accessed": 6.0, "optimal_seconds": -1.75}

    def as_text(self):
        return 'a = custom-call(), custom_call_target="ConcatBitcast"\n' * 2


def test_prefetch_sentinels_are_taken_out_of_the_time():
    found = report(Prefetching())
    assert found == CompileReport(100, 50, 20, 7, 137, 5.0, 6.0, 0.25, 2)
    text = "\n".join(found.lines(hbm_bytes=136))
    assert "DOES NOT FIT" in text and "counted once" in text


def test_memory_per_generation():
    assert {name: size // 2**30 for name, size in HBM_BYTES.items()} == {
        "v4": 32,
        "v5e": 16,
        "v5p": 95,
        "v6e": 32,
    }


@pytest.mark.parametrize("name", ["v5x:4x4", "v5e", ""])
def test_unknown_topologies_are_refused(name):
    with pytest.raises(ValueError, match="unknown topology"):
        topology_mesh(name)


@pytest.mark.parametrize("name", ["v5e:0x2", "v5e:2x", "v5e:axb", "v5p:2x2x-2"])
def test_sides_are_numbers_above_0(name):
    # libtpu ends the process for the first.
    with pytest.raises(ValueError, match=f"topology '{name}': .* no sides of a slice"):
        topology_mesh(name)


@pytest.mark.tpu
def test_an_axis_may_take_a_part_of_a_side_of_the_slice():
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'loomax[tpu-aot]'")
    mesh = topology_mesh("v6e:16x16", MeshConfig(fsdp=4, context=64))
    assert dict(mesh.shape) == {"replica": 1, "fsdp": 4, "context": 64, "tensor": 1}
    assert len(set(mesh.devices.flat)) == 256


def test_chips_with_two_devices_are_refused(monkeypatch):
    devices = [SimpleNamespace(coords=(0, 0, 0), core_on_chip=core) for core in (0, 1)]
    found = SimpleNamespace(devices=devices)
    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", lambda **_: found)
    with pytest.raises(ValueError, match="'v4:1x1x1': each of its chips has two .* use v5e, v5p"):
        topology_mesh("v4:1x1x1")


def test_topology_without_libtpu_names_the_extra(monkeypatch):
    def absent(*_, **__):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", absent)
    with pytest.raises(ValueError, match=r"pip install 'loomax\[tpu-aot\]'"):
        topology_mesh("v5e:4x4")


@pytest.mark.tpu
def test_the_tpu_compiler_reports_per_device():
    pytest.importorskip("libtpu")
    mesh = topology_mesh("v5e:2x2")
    where = jax.NamedSharding(mesh, jax.P("fsdp"))
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16, sharding=where)
    with uncached():  # only a TPU can load such a program
        found = report(jax.jit(lambda x: x * 2).lower(x).compile())
    assert found.argument_bytes == 1024 * 1024 * 2 // 4
    for name, reason in {"v5e:3x3": "does not exist", "v4:2x2x1": "has two devices"}.items():
        with pytest.raises(ValueError, match=f"topology '{name}'.* {reason}"):
            topology_mesh(name)


def test_setup_refuses_what_comes_too_late(tmp_path):
    assert jax.device_count() == 8
    with pytest.raises(ValueError, match="3 host devices .* already runs with 8"):
        setup_cpu(3)
    with pytest.raises(ValueError, match="devices is 0"):
        setup_cpu(0)


@pytest.mark.multiprocess
def test_setup_makes_devices_and_a_cache(tmp_path):
    code = (
        "from loomax.runtime.compile import setup_cpu; setup_cpu(3); import jax;"
        "print(jax.device_count(), jax.config.jax_compilation_cache_dir)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LOOMAX_CACHE": str(tmp_path / "xla"), "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["3", str(tmp_path / "xla")]
    assert (tmp_path / "xla").is_dir()


@pytest.mark.parametrize(
    ("installed", "node", "platforms", "needless"),
    [
        (("libtpu",), None, "", True),
        ((), None, "", False),
        (("libtpu",), "accel0", "", False),
        (("libtpu",), "vfio/0", "", False),
        (("libtpu",), "nvidia0", "", True),
        (("libtpu",), None, "tpu", False),
        ((CUDA,), None, "", True),
        ((CUDA,), "vfio/0", "", True),
        ((CUDA,), "nvidiactl", "", False),
        ((CUDA,), None, "cuda", False),
        (("libtpu", CUDA), None, "", True),
        (("libtpu", CUDA), "accel0", "", False),
        (("libtpu", CUDA), "dxg", "", False),
    ],
)
def test_only_devices_that_can_be_here_are_looked_for(
    tmp_path, monkeypatch, installed, node, platforms, needless
):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    found = dict.fromkeys(installed, True)
    monkeypatch.setattr("importlib.util.find_spec", found.get)
    if node:
        (tmp_path / node).parent.mkdir(exist_ok=True)
        (tmp_path / node).touch()
    assert compile_module._compiles_only(tmp_path) == needless
