"""Compiling for a TPU slice that is not here, and reading what the compiler says.

`topology_mesh` gives a mesh of devices that exist only as a description; a function lowered with
shardings on it is compiled by the real TPU compiler (the `tpu-aot` extra, libtpu) and can be
asked for its memory and cost, but not run.
"""

import contextlib
import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from loomax.runtime.axes import MeshConfig
from loomax.runtime.cycles import loop_factor
from loomax.runtime.mesh import make_mesh
from loomax.runtime.topology import GIB, HBM_BYTES, check_topology

# The word by which all of XLA's compilers say that a program does not fit.
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"

# Compute that the compiler's roofline takes for its bfloat16 peak, FLOP/s (read off libtpu 0.0.52;
# a v5p is rated 459e12 by its maker).
COMPILER_FLOPS = {"v5e": 197e12, "v5p": 394e12, "v6e": 918e12}

# Fast on-chip memory to plan with. At the default, the compiler's estimates of attention to a
# cache charge about three times the bytes that it reads.
_VMEM_KIB = {"v5e": 98_304, "v5p": 49_152, "v6e": 98_304}

SECONDS_NOTE = (
    "the compiler's own roofline: the body of a loop is counted once whatever its trip count, "
    "and kernels without a cost estimate count as nothing"
)

# The TPU compiler books every asynchronous weight prefetch as exactly -1 s.
_SENTINEL = 'custom_call_target="ConcatBitcast"'

# Without these libtpu asks the cloud's metadata server who it is, and waits for the answer.
_NO_CLOUD = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def topology_mesh(name: str, config: MeshConfig | None = None) -> Mesh:
    """A mesh over a described TPU slice, for example "v5e:4x4" or "v5p:2x2x2".

    Raises:
        ValueError: libtpu is not installed, there is no such slice, its chips have two devices,
            or the mesh does not fit.
    """
    check_topology(name)
    for variable, value in _NO_CLOUD.items():
        os.environ.setdefault(variable, value)
    try:
        found = topologies.get_topology_desc(topology_name=name, platform="tpu")
    except RuntimeError as error:
        if "not installed" in str(error):
            raise ValueError(
                "compiling for a TPU needs libtpu, which is not installed: "
                "pip install 'loomax[tpu-aot]'"
            ) from error
        reason = str(error).partition("\n")[0]
        raise ValueError(f"topology {name!r} does not exist: {reason}") from error
    if len({tuple(device.coords) for device in found.devices}) < len(found.devices):
        raise ValueError(
            f"topology {name!r}: each of its chips has two devices, of which JAX makes no mesh: "
            "use v5e, v5p or v6e"
        )
    return make_mesh(config or MeshConfig(), found.devices)


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Within this context nothing is read from JAX's compilation cache, or written to it."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    # JAX asks once whether it has a cache, and remembers.
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def compile_without_cache() -> None:
    """Switches the compilation cache off: only a real TPU can load what was compiled for one."""
    jax.config.update("jax_enable_compilation_cache", False)


def estimate_options(generation: str) -> dict[str, str]:
    """`compiler_options` under which the compiler's time estimates are most to be trusted."""
    limit = _VMEM_KIB.get(generation)
    return {} if limit is None else {"xla_tpu_scoped_vmem_limit_kib": str(limit)}


def hbm_per_device(name: str, mesh: Mesh) -> int:
    """Bytes of memory that one device of `topology_mesh(name)` has.

    A v4 chip appears as two devices that share its memory.
    """
    chips = Counter(tuple(device.coords) for device in mesh.devices.flat)
    return HBM_BYTES[name.partition(":")[0]] // max(chips.values())


@dataclasses.dataclass(frozen=True)
class CompileReport:
    """What the compiler says about one program. Bytes and FLOPs are per device."""

    argument_bytes: int
    output_bytes: int
    alias_bytes: int  # outputs that reuse a donated argument; part of output_bytes
    temp_bytes: int
    peak_bytes: int
    flops: float
    bytes_accessed: float
    optimal_seconds: float  # see SECONDS_NOTE
    sentinels: int  # how many -1 s entries were taken out of optimal_seconds

    def fits(self, hbm_bytes: int) -> bool:
        """True when the peak is within `hbm_bytes`."""
        return self.peak_bytes <= hbm_bytes

    def lines(self, hbm_bytes: int | None = None) -> list[str]:
        """The report as text, one fact a line."""
        sizes = {
            "arguments": self.argument_bytes,
            "outputs": self.output_bytes,
            "aliased": self.alias_bytes,
            "temporaries": self.temp_bytes,
            "peak": self.peak_bytes,
        }
        out = [f"{name:<12}{size / GIB:10.3f} GiB per device" for name, size in sizes.items()]
        if hbm_bytes is not None:
            word = "fits" if self.fits(hbm_bytes) else "DOES NOT FIT"
            out.append(f"{'memory':<12}{hbm_bytes / GIB:10.3f} GiB per device: {word}")
        out.append(f"{'compute':<12}{self.flops / 1e12:10.3f} TFLOP per device")
        out.append(f"{'traffic':<12}{self.bytes_accessed / GIB:10.3f} GiB per device")
        out.append(f"{'time':<12}{self.optimal_seconds * 1e3:10.3f} ms ({SECONDS_NOTE})")
        return out


def report(compiled: Any) -> CompileReport:
    """Reads memory and cost from what `jax.jit(...).lower(...).compile()` returned.

    The peak is arguments + outputs - aliased + temporaries: the field that some backends offer
    for it is wrong on CPU, and this sum is an upper bound everywhere.
    """
    memory = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    seconds, sentinels = _without_sentinels(compiled, cost.get("optimal_seconds", 0.0))
    live = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return CompileReport(
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        temp_bytes=memory.temp_size_in_bytes,
        peak_bytes=live - memory.alias_size_in_bytes + memory.temp_size_in_bytes,
        flops=cost.get("flops", 0.0),
        bytes_accessed=cost.get("bytes accessed", 0.0),
        optimal_seconds=seconds,
        sentinels=sentinels,
    )


def estimated_seconds(compiled: Any) -> float:
    """The compiler's seconds with loops multiplied out, where their trips are known; above 0.

    Of a program that cannot be printed (libtpu 0.0.52 cannot print every asynchronous operation)
    each loop's body counts once.
    """
    try:
        factor = loop_factor(compiled.as_text())
    except jax.errors.JaxRuntimeError:
        factor = 1.0
    # The roofline may say 0 for a program that only moves data.
    return factor * max(report(compiled).optimal_seconds, 1e-9)


def _without_sentinels(compiled: Any, seconds: float) -> tuple[float, int]:
    """The estimate without its -1 s entries, and how many there were.

    Some programs have no text (libtpu 0.0.52 cannot print every asynchronous operation), and
    some hide sentinels in their parts. No program takes negative time, so what is left below zero
    is made up in whole seconds.
    """
    try:
        found = compiled.as_text().count(_SENTINEL)
    except jax.errors.JaxRuntimeError:
        found = 0
    found += max(0, math.ceil(-(seconds + found)))
    return seconds + found, found
