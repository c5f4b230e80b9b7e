"""GPUs that need not be here: what a compiler asks of each kind, and how several are named.

Imports no JAX.
"""

import dataclasses
import difflib

GPUS_PER_HOST = 8

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


def gpu_topology(name: str) -> str:
    """Partitions x hosts x devices of a host of "h100" or "h100:16", as JAX's plugin spells it.

    Raises:
        ValueError: the kind or the number of GPUs is none that there is.
    """
    kind, _, number = name.partition(":")
    if kind not in GPUS:
        near = difflib.get_close_matches(kind, GPUS, n=1)
        hint = f"did you mean {near[0]}?" if near else "for example h100:8"
        raise ValueError(f"unknown GPU {name!r}: {hint} (GPUs: {', '.join(GPUS)})")
    count = int(number) if number.isdecimal() else 0 if ":" in name else 1
    if count < 1 or (count > GPUS_PER_HOST and count % GPUS_PER_HOST):
        raise ValueError(
            f"{name!r} names no number of GPUs: give 1 to {GPUS_PER_HOST} or a multiple of "
            f"{GPUS_PER_HOST}, for example h100:8"
        )
    hosts = max(1, count // GPUS_PER_HOST)
    return f"1x{hosts}x{count // hosts}"
