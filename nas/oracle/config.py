"""Settings of measurements. Imports no JAX."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CpuConfig:
    """How CPU time is measured.

    Args:
        rounds: samples of a program before its noise is judged.
        repeats: how often `rounds` more are taken at most, while the noise is above its bound.
        noise: bound on how far the median may be above the best sample, as a share.
        sample_seconds: of one sample: short programs run many times in it, so that calling them
            (about 0.2 ms) does not count.
        group: programs that take turns with each other.
        max_load: cores that others may keep busy.

    Raises:
        ValueError: a setting is out of range.
    """

    rounds: int = 12
    repeats: int = 4
    noise: float = 0.1
    sample_seconds: float = 0.02
    group: int = 16
    max_load: float = 0.5

    def __post_init__(self):
        for name in ("rounds", "repeats", "group"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        for name in ("noise", "sample_seconds", "max_load"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give more than 0")
