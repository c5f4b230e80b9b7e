"""GPUs that are not here: names, descriptions, the plugin, and its compiler where installed."""

import os
import re
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from loomax.runtime import gpu_aot
from loomax.runtime.aot import report
from loomax.runtime.compile import target_platform
from loomax.runtime.gpu_aot import gpu_mesh, gpu_present
from loomax.runtime.gpus import GPU_BYTES, GPUS, gpu_topology
from loomax.runtime.mesh import MeshConfig, on_mesh

PLUGIN = "jax_plugins.xla_cuda13"
ASKED = "jax.experimental.topologies.get_topology_desc"


def test_unknown_names_get_a_near_miss():
    with pytest.raises(ValueError, match=r"unknown GPU 'h10': did you mean h100\? .*a100, h100"):
        gpu_mesh("h10")
    with pytest.raises(ValueError, match="unknown GPU 'v5e:8': for example h100:8"):
        gpu_mesh("v5e:8")


@pytest.mark.parametrize("number", ["", "0", "-1", "two", "12", "1.5"])
def test_wrong_numbers_are_refused(number):
    with pytest.raises(ValueError, match="1 to 8 or a multiple of 8"):
        gpu_mesh(f"h100:{number}")


def test_memory_must_be_some():
    with pytest.raises(ValueError, match="memory_bytes is 0"):
        gpu_mesh("h100", memory_bytes=0)


def test_without_the_plugin_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'loomax\[gpu-aot\]'"):
        gpu_mesh("h100")


def test_without_any_plugin_there_is_none(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.util.find_spec", absent)
    assert gpu_aot.plugin_installed() is None


@pytest.mark.parametrize(
    ("node", "present"),
    [(None, False), ("nvidia0", True), ("nvidiactl", True), ("dxg", True), ("accel0", False)],
)
def test_a_gpu_is_seen_by_its_node(tmp_path, node, present):
    if node:
        (tmp_path / node).touch()
    assert gpu_present(tmp_path) == present


def test_memory_is_what_the_makers_sell_less_what_the_driver_keeps():
    sold = {"a100": 80 * 2**30, "h100": 80 * 2**30, "h200": 141 * 2**30}
    assert set(sold) == set(GPU_BYTES)
    for name, size in sold.items():
        assert 0.97 * size < GPU_BYTES[name] <= size


# NVIDIA's Ampere and Hopper white papers: dense float32 outside of the tensor cores.
@pytest.mark.parametrize(("name", "teraflops"), [("a100", 19.5), ("h100", 66.9), ("h200", 66.9)])
def test_sizes_give_the_published_float32_peak(name, teraflops):
    gpu = GPUS[name]
    assert 2 * gpu.cores * gpu.fpus * gpu.clock / 1e3 == pytest.approx(teraflops, rel=0.01)


def test_a_description_declares_the_memory():
    text = GPUS["h100"].description(123)
    assert re.search(r"\bdevice_memory_size: 123\b", text) and "major: 9 minor: 0" in text
    assert text.count("{") == text.count("}")
    assert "feature_extension: NONE" in GPUS["a100"].description(1)


@pytest.fixture
def fake(monkeypatch):
    """What the plugin is asked; it answers with as many host devices."""
    asked = []

    def answer(platform, target_config, topology):
        asked.append((platform, target_config, topology))
        count = int(topology.split("x")[1]) * int(topology.split("x")[2])
        return SimpleNamespace(devices=jax.devices()[:count])

    monkeypatch.setattr("importlib.util.find_spec", {PLUGIN: True}.get)
    monkeypatch.setenv("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "0")
    monkeypatch.setattr(ASKED, answer)
    return asked


@pytest.mark.parametrize(("name", "topology"), [("h100", "1x1x1"), ("a100:8", "1x1x8")])
def test_the_plugin_is_asked_for_one_host(fake, name, topology):
    mesh = gpu_mesh(name, MeshConfig(), memory_bytes=77)
    assert mesh.size == int(topology[-1])
    ((platform, text, shape),) = fake
    assert (platform, shape) == ("cuda", topology) and "device_memory_size: 77 " in text


def test_each_eight_are_a_host():
    assert gpu_topology("h100:16") == "1x2x8"


def test_a_plugin_that_jax_passed_over_is_started(monkeypatch, fake):
    started = []
    answer = jax.experimental.topologies.get_topology_desc

    def late(**asked):
        if not started:
            raise NotImplementedError("topology not implemented for cuda")
        return answer(**asked)

    plugin = SimpleNamespace(initialize=lambda: started.append(True))
    monkeypatch.setitem(sys.modules, "jax_plugins", SimpleNamespace(xla_cuda13=plugin))
    monkeypatch.setitem(sys.modules, PLUGIN, plugin)
    monkeypatch.setattr(ASKED, late)
    assert gpu_mesh("h100").size == 1 and started == [True]


def test_nothing_is_asked_of_cuda_where_no_gpu_is(monkeypatch, fake):
    monkeypatch.delenv("JAX_SKIP_CUDA_CONSTRAINTS_CHECK")
    for present in (True, False):
        monkeypatch.setattr(gpu_aot, "gpu_present", lambda present=present: present)
        gpu_mesh("h100")
        assert os.environ.get("JAX_SKIP_CUDA_CONSTRAINTS_CHECK") == (None if present else "1")


def test_the_gpu_compiler_reports_per_device():
    pytest.importorskip(PLUGIN, reason="needs the GPU compiler: pip install 'loomax[gpu-aot]'")
    mesh = gpu_mesh("h100:2")
    with on_mesh(mesh):
        assert target_platform() == "gpu"
    where = jax.NamedSharding(mesh, jax.P("fsdp"))
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16, sharding=where)
    compiled = jax.jit(lambda x: x * 2).lower(x).compile()
    found = report(compiled)
    assert found.argument_bytes == found.output_bytes == 1024 * 1024 * 2 // 2
    assert "is_scheduled=true" in compiled.as_text()
    assert 0 < compiled.memory_analysis().peak_memory_in_bytes <= found.peak_bytes
