"""Dense peaks and memory bandwidths of chips, as their makers state them. Imports no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loomax.runtime.flops import PEAK_FLOPS


@dataclass(frozen=True)
class Chip:
    """One chip.

    Args:
        flops: dense peak by dtype, operations/s.
        bandwidth: of its memory, bytes/s.
    """

    flops: Mapping[str, float]
    bandwidth: float


def _tpu(generation: str, int8: float, bandwidth: float) -> Chip:
    """float32 is multiplied in bfloat16 at JAX's default precision."""
    peak = PEAK_FLOPS[generation]
    return Chip({"float32": peak, "bfloat16": peak, "int8": int8}, bandwidth)


# TPU: cloud.google.com/tpu/docs; NVIDIA: data sheets, without sparsity, float32 as TF32.
CHIPS = MappingProxyType(
    {
        "v4": _tpu("v4", 275e12, 1228e9),
        "v5e": _tpu("v5e", 394e12, 819e9),
        "v5p": _tpu("v5p", 918e12, 2765e9),
        "v6e": _tpu("v6e", 1836e12, 1640e9),
        "a100": Chip({"float32": 156e12, "bfloat16": 312e12, "int8": 624e12}, 2039e9),
        "h100": Chip({"float32": 495e12, "bfloat16": 989e12, "int8": 1979e12}, 3352e9),
    }
)
ITEM_BYTES = MappingProxyType({"float32": 4, "bfloat16": 2, "int8": 1})
