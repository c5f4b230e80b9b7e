"""How programs are compiled on each backend. What XLA:CPU needs to run MJX is written here only.

Two facts about jaxlib on CPU (both measured):
  1. The fusion emitters of jaxlib 0.10 make MJX about 80 times slower, so programs that hold
     physics are compiled with `physics_options()`. Other programs, the ray caster among them, are
     not. From 0.11 on there is no such option, nor any need: jaxlib 0.12 without it is as fast.
  2. Batched LAPACK kernels (MJX's Cholesky) split batches of about 128 and more over the client's
     thread pool and block one of its threads while they wait. With few cores two such kernels
     wait for each other for ever. Blocks of at most 64 environments never split; blocks of 16 are
     also the fastest. `map_blocks` makes them.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from loomax.runtime.aot import CompileReport, report, topology_mesh
from loomax.runtime.gpu_aot import gpu_present, plugin_installed
from loomax.runtime.malloc import keep_large_blocks
from loomax.runtime.topology import HBM_BYTES

__all__ = [
    "HBM_BYTES",
    "PHYSICS_BLOCK",
    "CompileReport",
    "map_blocks",
    "physics_options",
    "report",
    "setup_cpu",
    "target_platform",
    "topology_mesh",
]

PHYSICS_BLOCK = 16
CACHE_VARIABLE = "LOOMAX_CACHE"


def setup_cpu(devices: int | None = None, cache: str | Path | None = None) -> None:
    """One host device per core and a compilation cache on disk. Call before JAX is used.

    Args:
        devices: number of host devices; default: the cores that this process may use.
        cache: folder of compiled programs; default: $LOOMAX_CACHE, else ~/.cache/loomax/xla.

    Raises:
        ValueError: `devices` is below 1, or JAX has already started with another number.
    """
    count = len(os.sched_getaffinity(0)) if devices is None else devices
    if count < 1:
        raise ValueError(f"devices is {count}: give at least 1")
    keep_large_blocks()
    if _compiles_only():
        jax.config.update("jax_platforms", "cpu")
    # A count forced through XLA_FLAGS wins: JAX refuses to take both.
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        _set_device_count(count, exact=devices is not None)
    folder = Path(cache) if cache else cache_folder("xla")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # A read-only home costs time, never a run.
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cache_folder(kind: str) -> Path:
    """Folder of things that can be made again: compiled programs ("xla") and what is said of them.

    Programs lie in $LOOMAX_CACHE itself, or in ~/.cache/loomax/xla.
    """
    given = os.environ.get(CACHE_VARIABLE)
    if not given:
        return Path.home() / ".cache/loomax" / kind
    return Path(given) if kind == "xla" else Path(given) / kind


def _compiles_only(devices: Path = Path("/dev")) -> bool:
    """Whether libtpu or JAX's CUDA plugin is here to compile only.

    JAX would search for a TPU, or for CUDA's libraries, with loud errors.
    """
    if os.environ.get("JAX_PLATFORMS"):
        return False
    tpu, gpu = importlib.util.find_spec("libtpu") is not None, plugin_installed() is not None
    chips = any([*devices.glob("accel*"), *devices.glob("vfio/*")])
    return (tpu or gpu) and not (tpu and chips) and not (gpu and gpu_present(devices))


def _set_device_count(count: int, exact: bool) -> None:
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError as error:
        if exact and jax.device_count("cpu") != count:
            raise ValueError(
                f"{count} host devices were asked for but JAX already runs with "
                f"{jax.device_count('cpu')}: call setup_cpu before any JAX operation"
            ) from error


def target_platform() -> str:
    """The platform that a program traced here is for: "cpu", "tpu" or "gpu".

    Inside `jax.sharding.use_abstract_mesh(topology_mesh(...).abstract_mesh)` that is the
    topology's, elsewhere it is the default backend.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def physics_options(
    platform: str | None = None, *, version: tuple[int, ...] = jax.__version_info__
) -> dict[str, bool | str]:
    """`compiler_options` for `jax.jit` of any program that steps MJX.

    Args:
        platform: what the program is for; default: `target_platform()`.
        version: of JAX, which refuses options that it does not know.
    """
    if (platform or target_platform()) != "cpu" or version >= (0, 11):
        return {}
    return {"xla_cpu_use_fusion_emitters": False}


def map_blocks(
    fn: Callable[..., Any], block: int = PHYSICS_BLOCK, *, platform: str | None = None
) -> Callable[..., Any]:
    """`jax.vmap(fn)`, which on CPU runs over blocks of `block` entries, one after the other.

    Every argument is a pytree with the same leading axis N. A batch of at most `block` entries is
    one block. Under `shard_map` each device walks through its own blocks.

    Raises (when called):
        ValueError: `block` is below 1 or does not divide N, or the leading axes differ.
    """
    if block < 1:
        raise ValueError(f"block is {block}: give at least 1")
    batched = jax.vmap(fn)

    def mapped(*args):
        lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(args)}
        if len(lengths) != 1 or () in lengths:
            raise ValueError(f"leading axes {sorted(lengths)} differ: give every leaf the same one")
        (length,) = lengths.pop()
        if length > block and length % block:
            raise ValueError(
                f"a batch of {length} does not divide into blocks of {block}: "
                f"use a multiple of {block} per device"
            )
        if length <= block or (platform or target_platform()) != "cpu":
            return batched(*args)
        split = jax.tree.map(lambda x: x.reshape(length // block, block, *x.shape[1:]), args)
        out = jax.lax.map(lambda xs: batched(*xs), split)
        return jax.tree.map(lambda x: x.reshape(length, *x.shape[2:]), out)

    return mapped
