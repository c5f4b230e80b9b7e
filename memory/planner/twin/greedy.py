"""Placing buffers one after the other, in some order, into the gaps that are left."""

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from loomax.memory.planner.twin.problem import NEVER, Problem

# The lowest gap that is large enough, or the smallest such gap.
Fit = Literal["first", "best"]
Order = Literal["size", "area", "length", "pressure", "birth"]
ORDERS: tuple[Order, ...] = ("size", "area", "length", "pressure", "birth")


@dataclass(frozen=True)
class Greedy:
    order: tuple[int, ...]
    fit: Fit
    offsets: tuple[int, ...]
    peak: int


def sorted_by(problem: Problem, order: Order) -> list[int]:
    """Buffers by one of the orders, ties by the smaller index."""
    size, width, first = problem.size, problem.width, problem.first
    loads = pressure(problem) if order == "pressure" else ()
    # Floats, as in the compiled planner, so that ties are the same.
    keys: dict[Order, Callable[[int], tuple[float, float]]] = {
        "size": lambda i: (-float(size[i]), -float(width(i))),
        "area": lambda i: (-float(size[i]) * width(i), -float(size[i])),
        "length": lambda i: (-float(width(i)), -float(size[i])),
        "pressure": lambda i: (-float(loads[i]), -float(size[i])),
        "birth": lambda i: (float(first[i]), -float(size[i])),
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


def place_in_order(problem: Problem, order: Sequence[int], fit: Fit) -> tuple[int, ...]:
    offsets = [0] * problem.count
    placed: list[int] = []  # by offset
    for buffer in order:
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


def greedy_portfolio(problem: Problem, goal: int) -> Greedy:
    """Best of all orders and both fits; stops as soon as the peak is at most `goal`."""
    best = Greedy((), "first", (), NEVER)
    for name in ORDERS:
        order = tuple(sorted_by(problem, name))
        for fit in ("first", "best"):
            offsets = place_in_order(problem, order, fit)
            peak = problem.peak(offsets)
            if peak < best.peak:
                best = Greedy(order, fit, offsets, peak)
            if best.peak <= goal:
                return best
    return best
