"""What other forms of a program would give. Imports no JAX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loomax.memory.report.text import bytes_text, percent_text, table

HEADER = ("form", "peak", "against now", "FLOPs", "seconds", "fits")


@dataclass(frozen=True)
class Lever:
    """One form of a program, as its compiler judged it.

    Args:
        name: what it is, such as "remat, 4 microbatches".
        peak_bytes: of all its blocks together.
        flops: of one step; None if unknown.
        seconds: of one step, measured or estimated; None if unknown.
        fits: whether it fits into the budget; None without one.

    Raises:
        ValueError: the name is empty, or a number is negative or not finite.
    """

    name: str
    peak_bytes: int
    flops: float | None = None
    seconds: float | None = None
    fits: bool | None = None

    def __post_init__(self):
        if not self.name:
            raise ValueError("a lever has no name: say what form it is")
        for field in ("peak_bytes", "flops", "seconds"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{self.name}: {field} is {value}: give 0 or more")


def lever_rows(levers: Sequence[Lever]) -> list[tuple[str, ...]]:
    """A row of text for each form, the least peak first; columns as in `HEADER`.

    Args:
        levers: the first is the form in use, which the others are compared with.
    """
    if not levers:
        return []
    now = levers[0]
    return [_row(lever, now) for lever in sorted(levers, key=lambda lever: lever.peak_bytes)]


def _row(lever: Lever, now: Lever) -> tuple[str, ...]:
    saved = lever.peak_bytes - now.peak_bytes
    against = f"{'+' if saved > 0 else '-'}{bytes_text(abs(saved))}" if saved else "0 B"
    flops = "unknown"
    if lever.flops is not None and now.flops:
        flops = percent_text(lever.flops / now.flops - 1)
    return (
        lever.name,
        bytes_text(lever.peak_bytes),
        "now" if lever is now else against,
        flops,
        "unknown" if lever.seconds is None else f"{lever.seconds:.4g}",
        {None: "", True: "yes", False: "no"}[lever.fits],
    )


def lever_lines(levers: Sequence[Lever]) -> list[str]:
    """The rows as a table of text."""
    rows = lever_rows(levers)
    return table([HEADER, *rows], left=(0,)) if rows else []
