"""Compiling for GPUs that are not here, with XLA's GPU compiler.

`gpu_mesh` gives a mesh of devices that exist only as a description. A function lowered with
shardings on it is compiled by the real compiler (the `gpu-aot` extra: JAX's CUDA plugin, and of
NVIDIA's parts only the assembler ptxas and libdevice, which a CUDA toolkit on this machine also
has) and can be asked for its text and its memory, but not run. Without a device nothing is tuned
by measuring and no library is asked for its workspace, so kernels, and the bytes that some of them
need, can differ from those of a real run. There is no cost analysis.
"""

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from jax.experimental import topologies
from jax.sharding import Mesh

from loomax.runtime.axes import MeshConfig
from loomax.runtime.gpus import GPUS, gpu_topology
from loomax.runtime.mesh import make_mesh

PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")
INSTALL = "pip install 'loomax[gpu-aot]'"

# Nodes of an NVIDIA GPU: plain, in containers, under WSL2.
_NODES = ("nvidia0", "nvidiactl", "dxg")


def gpu_mesh(
    name: str, config: MeshConfig | None = None, *, memory_bytes: int | None = None
) -> Mesh:
    """A mesh over described GPUs, for example "h100" or "h100:8" (eight of them).

    Above eight the number is a multiple of eight, and each eight are one host.

    Args:
        name: kind and number of GPUs.
        config: sizes of the mesh.
        memory_bytes: memory of one device, by default `GPU_BYTES`. The compiler recomputes values
            where a program would take more than most of it, but refuses no program, and less
            memory can give a larger program: compile for several and keep the least.

    Raises:
        ValueError: the plugin is not installed, or the name, the number or the memory make no
            sense, or the mesh does not fit.
    """
    topology = gpu_topology(name)
    if memory_bytes is not None and memory_bytes < 1:
        raise ValueError(f"memory_bytes is {memory_bytes}: give at least 1, or None")
    gpu = GPUS[name.partition(":")[0]]
    devices = _devices(gpu.description(memory_bytes or gpu.memory), topology)
    return make_mesh(config or MeshConfig(), devices)


def gpu_present(nodes: Path = Path("/dev")) -> bool:
    """Whether this machine has an NVIDIA GPU; asks no driver."""
    return any((nodes / node).exists() for node in _NODES)


def plugin_installed() -> str | None:
    """Module of JAX's CUDA plugin; None without one."""
    try:
        return next((name for name in PLUGINS if importlib.util.find_spec(name)), None)
    except ModuleNotFoundError:
        return None  # There is no jax_plugins at all.


def _devices(description: str, topology: str) -> list[Any]:
    plugin = plugin_installed()
    if plugin is None:
        raise ValueError(
            f"compiling for a GPU needs JAX's CUDA plugin, which is not installed: {INSTALL}"
        )
    if not gpu_present():
        # Nothing will run, so that cuDNN is missing does not matter.
        os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    asked = {"target_config": description, "topology": topology}
    try:
        return topologies.get_topology_desc(platform="cuda", **asked).devices
    except NotImplementedError:
        # JAX had started before, and looked for cuDNN.
        importlib.import_module(plugin).initialize()
    return topologies.get_topology_desc(platform="cuda", **asked).devices
