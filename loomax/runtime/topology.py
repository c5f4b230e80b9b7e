"""Names of TPU slices and of other targets of compilation. Imports no JAX."""

import difflib
import importlib.util
import os
import re

from loomax.runtime.config import unknown
from loomax.runtime.gpus import GPUS, gpu_topology

GIB = 2**30

# High-bandwidth memory of one chip.
HBM_BYTES = {"v4": 32 * GIB, "v5e": 16 * GIB, "v5p": 95 * GIB, "v6e": 32 * GIB}
EXAMPLES = "cpu, tpu:v5e (one chip), v5e:4x4 (a slice), gpu:h100"

# Sides of a slice. Of a side of 0 libtpu does not say no: it ends the process.
_SHAPE = re.compile(r"[1-9][0-9]*(x[1-9][0-9]*)*(_twisted|_untwisted)?")


def check_topology(name: str) -> None:
    """Checks how a slice is written, which needs no libtpu.

    Raises:
        ValueError: an unknown generation, or sides that are no numbers above 0.
    """
    generation, _, shape = name.partition(":")
    if generation not in HBM_BYTES or not shape:
        near = difflib.get_close_matches(generation, HBM_BYTES, n=1)
        hint = f"did you mean {near[0]}:{shape or '4x4'}?" if near else "for example v5e:4x4"
        raise ValueError(f"unknown topology {name!r}: {hint} (generations: {', '.join(HBM_BYTES)})")
    if not _SHAPE.fullmatch(shape):
        raise ValueError(
            f"topology {name!r}: {shape!r} are no sides of a slice: give numbers of at least 1, "
            "for example v5e:4x4"
        )


def check_target(name: str) -> str:
    """Checks how a target is written; returns its platform: cpu, tpu or gpu.

    Raises:
        ValueError: there is no such target.
    """
    parts = name.split(":")
    if parts[0] == "cpu":
        if len(parts) > 2 or not all(n.isdecimal() and 0 < int(n) < 10_000 for n in parts[1:]):
            raise ValueError(f"target {name!r}: write cpu, or cpu:4 for four host devices")
        return "cpu"
    kind = parts.pop(0) if parts[0] in ("tpu", "gpu") else ""
    if parts and kind != "gpu" and parts[0] in HBM_BYTES and len(parts) <= 2:
        if len(parts) == 2:
            check_topology(":".join(parts))
        return "tpu"
    if parts and kind != "tpu" and parts[0] in GPUS and len(parts) <= 2:
        gpu_topology(":".join(parts))
        return "gpu"
    known = [*(f"tpu:{generation}" for generation in HBM_BYTES), *(f"gpu:{g}" for g in GPUS)]
    raise ValueError(f"{unknown('target', name, ['cpu', *known])}; examples: {EXAMPLES}")


def check_compiler() -> None:
    """Raises ValueError where the TPU compiler is not installed."""
    if "TPU_LIBRARY_PATH" in os.environ or importlib.util.find_spec("libtpu") is not None:
        return
    raise ValueError(
        "compiling for a TPU needs libtpu, which is not installed: pip install 'loomax[tpu-aot]'"
    )
