"""Oracles by name. JAX is imported when one of them measures."""

import importlib.metadata
from collections.abc import Iterator, Sequence

from loomax.nas.oracle.chips import CHIPS, ITEM_BYTES
from loomax.nas.oracle.config import CpuConfig
from loomax.nas.oracle.reading import Chain, Oracle, Reading
from loomax.nas.oracle.roofline import roofline
from loomax.runtime.config import unknown

COMPILED = ("v4", "v5e", "v5p", "v6e")
BOUND = "roofline-"
DEVICES = ("cpu", *COMPILED, *(BOUND + chip for chip in CHIPS))


def oracle_of(
    device: str, batch: int = 1, dtype: str | None = None, cpu: CpuConfig | None = None
) -> Oracle:
    """The oracle of a device.

    Args:
        device: "cpu" is this machine, measured; "v5e" what the TPU compiler estimates;
            "roofline-v5e" a bound from arithmetic and bytes.
        batch: images of one forward pass.
        dtype: by default float32 on the CPU, bfloat16 elsewhere.
        cpu: settings of measurements.

    Raises:
        ValueError: there is no such device, `batch` is below 1, or the dtype is not for it.
    """
    if device not in DEVICES:
        raise ValueError(unknown("device", device, DEVICES))
    if batch < 1:
        raise ValueError(f"batch is {batch}: give at least 1")
    bound = device.startswith(BOUND)
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    allowed = tuple(ITEM_BYTES) if bound else ("float32", "bfloat16")
    if dtype not in allowed:
        raise ValueError(f"dtype is {dtype!r}: {device} takes {', '.join(allowed)}")
    if bound:
        chip = CHIPS[device.removeprefix(BOUND)]

        def count(chains: Sequence[Chain]) -> Iterator[Reading]:
            for chain in chains:
                yield Reading(sum(roofline(block, chip, dtype, batch) for block in chain))

        return Oracle(device, "roofline", dtype, batch, "", count)
    version = f"jax {importlib.metadata.version('jax')}"
    if device == "cpu":
        settings = cpu or CpuConfig()

        def time(chains: Sequence[Chain]) -> Iterator[Reading]:
            from loomax.nas.oracle.cpu import measure_cpu

            return measure_cpu(chains, batch, dtype, settings)

        return Oracle(device, "measured", dtype, batch, version, time)

    def estimate(chains: Sequence[Chain]) -> Iterator[Reading]:
        from loomax.nas.oracle.tpu import estimate_tpu

        return estimate_tpu(chains, batch, dtype, device)

    return Oracle(device, "tpu-compiler", dtype, batch, f"{version}, {_libtpu()}", estimate)


def _libtpu() -> str:
    try:
        return f"libtpu {importlib.metadata.version('libtpu')}"
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            "estimates for a TPU need libtpu, which is not installed: pip install"
            " 'loomax[tpu-aot]', or take a roofline-... device"
        ) from None
