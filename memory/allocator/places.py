"""Ranges of addresses that are in use, and gaps between ranges. Imports no JAX."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from math import inf

from loomax.memory.allocator.protocol import round_up

Place = tuple[int, int]


class Places:
    """Disjoint ranges [low, high) in use, in the order of their addresses."""

    def __init__(self):
        self.ranges: list[Place] = []

    def clear(self, low: int, high: int) -> bool:
        """Whether nothing is in use in [low, high)."""
        at = bisect_left(self.ranges, (low, low))
        before = at == 0 or self.ranges[at - 1][1] <= low
        return before and (at == len(self.ranges) or self.ranges[at][0] >= high)

    def add(self, low: int, high: int) -> None:
        """Takes a range into use; an empty one is not kept."""
        if low < high:
            insort(self.ranges, (low, high))

    def remove(self, low: int, high: int) -> None:
        """Gives a range back."""
        if low < high:
            del self.ranges[bisect_left(self.ranges, (low, high))]


def best_gap(obstacles: Iterable[Place], size: int, end: int | None, alignment: int) -> int:
    """Where `size` bytes fit best: the smallest gap below `end`, the lowest of several.

    Where no gap is large enough it is the first place behind all obstacles, though it goes over
    `end`.

    Args:
        end: of the last gap; None: what lies behind all obstacles is no gap.
    """
    best, least, level = -1, inf, 0
    for low, high in sorted(obstacles):
        if low - level >= size:
            start = round_up(level, alignment)
            if size <= low - start < least:
                best, least = start, low - start
        if high > level:
            level = high
    start = round_up(level, alignment)
    if end is not None and size <= end - start < least:
        best = start
    return start if best < 0 else best
