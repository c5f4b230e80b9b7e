"""Placing buffers one after the other, in some order, into the gaps that are left."""

import math
import time
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from loomax.memory.planner.twin.problem import NEVER, Problem

# The lowest gap that is large enough, or the smallest such gap.
Fit = Literal["first", "best"]
Order = Literal["size", "area", "length", "pressure", "birth", "stack"]
# Buffers that are looked at between two looks at the clock.
CLOCK_EVERY = 1 << 17
# With one over the share of the time from which on a buffer counts as long, in "stack".
RULES: tuple[tuple[Order, int], ...] = (
    ("stack", 16),
    ("stack", 64),
    ("stack", 4),
    ("size", 0),
    ("area", 0),
    ("length", 0),
    ("pressure", 0),
    ("birth", 0),
)


@dataclass(frozen=True)
class Greedy:
    order: tuple[int, ...]
    fit: Fit
    offsets: tuple[int, ...]
    peak: int


def sorted_by(problem: Problem, order: Order, parts: int = 0) -> list[int]:
    """Buffers by one of the orders, ties by the smaller index.

    "stack": what lives for one of `parts` parts of the time comes first, the last death first, as
    what a forward pass keeps for its backward pass forms a stack; then the others, the fullest
    times first.
    """
    size, width, first = problem.size, problem.width, problem.first
    loads = pressure(problem) if order in ("pressure", "stack") else ()

    def stack(i: int) -> tuple[float, ...]:
        if width(i) * parts >= problem.sections:
            return 0.0, -float(problem.last[i]), -float(size[i])
        return 1.0, -float(loads[i]), -float(size[i])

    # Floats, as in the compiled planner, so that ties are the same.
    keys: dict[Order, Callable[[int], tuple[float, ...]]] = {
        "size": lambda i: (-float(size[i]), -float(width(i))),
        "area": lambda i: (-float(size[i]) * width(i), -float(size[i])),
        "length": lambda i: (-float(width(i)), -float(size[i])),
        "pressure": lambda i: (-float(loads[i]), -float(size[i])),
        "birth": lambda i: (float(first[i]), -float(size[i])),
        "stack": stack,
    }
    return sorted(range(problem.count), key=keys[order])


def pressure(problem: Problem) -> list[int]:
    """Most bytes that live at once with each buffer."""
    load = [0] * (problem.sections + 1)
    for buffer, size in enumerate(problem.size):
        load[problem.first[buffer]] += size
        load[problem.last[buffer]] -= size
    load = list(accumulate(load))
    return [max(load[s] for s in problem.span(buffer)) for buffer in range(problem.count)]


def place_in_order(
    problem: Problem, order: Sequence[int], fit: Fit, end: float = math.inf
) -> tuple[int, ...]:
    """Offsets; none when the clock shows `end` before all are placed."""
    offsets = [0] * problem.count
    placed: list[int] = []  # by offset
    work = 0
    for buffer in order:
        work += 64 + len(placed)
        if work > CLOCK_EVERY:
            if time.monotonic() > end:
                return ()
            work = 0
        offsets[buffer] = find_gap(problem, placed, offsets, buffer, fit)
        insort(placed, buffer, key=lambda other: offsets[other])
    return tuple(offsets)


def find_gap(
    problem: Problem, placed: Sequence[int], offsets: Sequence[int], buffer: int, fit: Fit
) -> int:
    """Offset for a buffer among those that are placed."""
    size, level, best, best_gap = problem.size[buffer], 0, None, NEVER
    for other in placed:
        if not problem.meet(buffer, other):
            continue
        gap = offsets[other] - level
        if size <= gap < best_gap:
            if fit == "first":
                return level
            best, best_gap = level, gap
        level = max(level, offsets[other] + problem.size[other])
    return level if best is None else best


NOTHING = Greedy((), "first", (), NEVER)


def greedy_portfolio(problem: Problem, goal: int, end: float, best: Greedy = NOTHING) -> Greedy:
    """Best of all rules, both fits and `best`.

    Stops as soon as the peak is at most `goal`, or the clock, once there is a plan, shows `end`.
    """
    for name, parts in RULES:
        order = tuple(sorted_by(problem, name, parts))
        for fit in ("first", "best"):
            offsets = place_in_order(problem, order, fit, end if best.offsets else math.inf)
            if not offsets:
                return best
            peak = problem.peak(offsets)
            if peak < best.peak:
                best = Greedy(order, fit, offsets, peak)
            if best.peak <= goal or time.monotonic() > end:
                return best
    return best
