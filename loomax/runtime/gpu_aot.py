"""Compiling for GPUs that are not here, with XLA's GPU compiler.

`gpu_mesh` gives a mesh of devices that exist only as a description. A function lowered with
shardings on it is compiled by the real compiler (the `gpu-aot` extra: JAX's CUDA plugin, and of
NVIDIA's parts only the assembler ptxas and libdevice, which a CUDA toolkit on this machine also
has) and can be asked for its text and its memory, but not run. Without a device nothing is tuned
by measuring and no library is asked for its workspace, so kernels, and the bytes that some of them
need, can differ from those of a real run. There is no cost analysis.
"""

import dataclasses
import difflib
import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from jax.experimental import topologies
from jax.sharding import Mesh

from loomax.runtime.axes import MeshConfig
from loomax.runtime.mesh import make_mesh

GPUS_PER_HOST = 8
PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")
INSTALL = "pip install 'loomax[gpu-aot]'"

# Nodes of an NVIDIA GPU: plain, in containers, under WSL2.
_NODES = ("nvidia0", "nvidiactl", "dxg")

# The same for all of these generations (CUDA C++ Programming Guide, "Compute Capabilities").
_LIMITS = """
    threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
    block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
    thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
    shared_memory_per_block: 49152
    registers_per_core_limit: 65536 registers_per_block_limit: 65536"""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One kind of GPU, as far as the compiler asks.

    Args:
        kind: the device's name.
        capability: CUDA compute capability (major, minor).
        memory: bytes, as CUDA tells them.
        bandwidth: of the memory, bytes/s.
        cores: streaming multiprocessors; `fpus`: float32 units of each.
        clock: GHz.
        cache: bytes of the second-level cache.
        shared: bytes of shared memory of a core; a block gets 1 KiB less at most.
    """

    kind: str
    capability: tuple[int, int]
    memory: int
    bandwidth: int
    cores: int
    fpus: int
    clock: float
    cache: int
    shared: int

    def description(self, memory: int) -> str:
        """XLA's GpuTargetConfigProto as text, with `memory` bytes in place of the GPU's own."""
        major, minor = self.capability
        # Instructions of one architecture only, such as Hopper's products of warp groups.
        extension = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
        return f"""gpu_device_info {{ {_LIMITS}
    cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {extension} }}
    core_count: {self.cores} fpus_per_core: {self.fpus} clock_rate_ghz: {self.clock}
    device_memory_size: {memory} memory_bandwidth: {self.bandwidth}
    l2_cache_size: {self.cache} shared_memory_per_core: {self.shared}
    shared_memory_per_block_optin: {self.shared - 1024}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{self.kind}" """


# What the devices tell CUDA, as recorded in xla/backends/gpu/target_config/specs of
# github.com/openxla/xla (commits 4336d12, 0774019).
GPUS = {
    "a100": Gpu(
        kind="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        memory=85_100_068_864,
        bandwidth=2_039_040_000_000,
        cores=108,
        fpus=64,
        clock=1.41,
        cache=40 * 2**20,
        shared=164 * 1024,
    ),
    "h100": Gpu(
        kind="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        memory=84_942_979_072,
        bandwidth=3_352_320_000_000,
        cores=132,
        fpus=128,
        clock=1.98,
        cache=50 * 2**20,
        shared=228 * 1024,
    ),
    "h200": Gpu(
        kind="NVIDIA H200 141GB HBM3e",
        capability=(9, 0),
        memory=151_397_597_184,
        bandwidth=4_800_000_000_000,
        cores=132,
        fpus=128,
        clock=1.98,
        cache=50 * 2**20,
        shared=228 * 1024,
    ),
}

# Memory of one device. A process gets less: by default JAX takes 75 % of it.
GPU_BYTES = {name: gpu.memory for name, gpu in GPUS.items()}


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
    kind, _, number = name.partition(":")
    if kind not in GPUS:
        near = difflib.get_close_matches(kind, GPUS, n=1)
        hint = f"did you mean {near[0]}?" if near else "for example h100:8"
        raise ValueError(f"unknown GPU {name!r}: {hint} (GPUs: {', '.join(GPUS)})")
    if memory_bytes is not None and memory_bytes < 1:
        raise ValueError(f"memory_bytes is {memory_bytes}: give at least 1, or None")
    topology = _topology(name, number)
    gpu = GPUS[kind]
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


def _topology(name: str, number: str) -> str:
    """Partitions x hosts x devices of a host, as the plugin spells it."""
    count = int(number) if number.isdecimal() else 0 if ":" in name else 1
    if count < 1 or (count > GPUS_PER_HOST and count % GPUS_PER_HOST):
        raise ValueError(
            f"{name!r} names no number of GPUs: give 1 to {GPUS_PER_HOST} or a multiple of "
            f"{GPUS_PER_HOST}, for example h100:8"
        )
    hosts = max(1, count // GPUS_PER_HOST)
    return f"1x{hosts}x{count // hosts}"


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
