"""Plans in near-linear time, for traces of so many buffers that every pair takes too long."""

import time
from bisect import bisect_left, insort
from collections.abc import Sequence

from loomax.memory.planner.twin.greedy import RULES, Greedy, sorted_by
from loomax.memory.planner.twin.problem import Problem

# From so many buffers on these rules come first.
QUICK_FROM = 32_768
CLOCK_EVERY = 1024


class Gaps:
    """Free memory between live buffers; above the last of them all is free."""

    def __init__(self):
        self.top = 0
        self._sizes: list[tuple[int, int]] = []
        self._at: dict[int, int] = {}
        self._ends: dict[int, int] = {}

    def take(self, size: int) -> int:
        """The lowest of the smallest gaps that are large enough."""
        found = bisect_left(self._sizes, (size, 0))
        if found == len(self._sizes):
            self.top += size
            return self.top - size
        length, at = self._sizes[found]
        self._remove(at, length)
        if length > size:
            self._add(at + size, length - size)
        return at

    def give(self, at: int, size: int) -> None:
        """Frees a buffer; gaps beside it become one with it."""
        if at + size in self._at:
            length = self._at[at + size]
            self._remove(at + size, length)
            size += length
        if at in self._ends:
            length = self._ends[at]
            self._remove(at - length, length)
            at, size = at - length, size + length
        if at + size == self.top:
            self.top = at
        else:
            self._add(at, size)

    def _add(self, at: int, size: int) -> None:
        self._at[at] = self._ends[at + size] = size
        insort(self._sizes, (size, at))

    def _remove(self, at: int, size: int) -> None:
        del self._at[at], self._ends[at + size]
        self._sizes.pop(bisect_left(self._sizes, (size, at)))


class Skyline:
    """Heights over sections: the most within a range, and one height for all of a range."""

    def __init__(self, sections: int):
        self.leaves = 1
        while self.leaves < sections:
            self.leaves *= 2
        self._most = [0] * (2 * self.leaves)
        # The height of a whole node; -1: it has several.
        self._all = [-1] * (2 * self.leaves)

    def most(self, first: int, last: int) -> int:
        return self._ask(1, 0, self.leaves, first, last)

    def rise(self, first: int, last: int, height: int) -> None:
        self._set(1, 0, self.leaves, first, last, height)

    def _ask(self, node: int, low: int, high: int, first: int, last: int) -> int:
        if last <= low or high <= first:
            return 0
        if first <= low and high <= last:
            return self._most[node]
        if self._all[node] >= 0:
            return self._all[node]
        middle = (low + high) // 2
        return max(
            self._ask(2 * node, low, middle, first, last),
            self._ask(2 * node + 1, middle, high, first, last),
        )

    def _set(self, node: int, low: int, high: int, first: int, last: int, height: int) -> None:
        if last <= low or high <= first:
            return
        if first <= low and high <= last:
            self._most[node] = self._all[node] = height
            return
        left, right = 2 * node, 2 * node + 1
        if self._all[node] >= 0:
            for child in (left, right):
                self._most[child] = self._all[child] = self._all[node]
        self._all[node] = -1
        middle = (low + high) // 2
        self._set(left, low, middle, first, last, height)
        self._set(right, middle, high, first, last, height)
        self._most[node] = max(self._most[left], self._most[right])


def sweep(problem: Problem) -> tuple[int, ...]:
    """Offsets as an allocator would choose them in the order of births, by the smallest gap.

    Buffers born together come largest first.
    """
    every, offsets, gaps = range(problem.count), [0] * problem.count, Gaps()
    births = sorted(every, key=lambda i: (problem.first[i], -problem.size[i]))
    deaths, dead = sorted(every, key=lambda i: problem.last[i]), 0
    for buffer in births:
        while problem.last[deaths[dead]] <= problem.first[buffer]:
            gaps.give(offsets[deaths[dead]], problem.size[deaths[dead]])
            dead += 1
        offsets[buffer] = gaps.take(problem.size[buffer])
    return tuple(offsets)


def stack_up(problem: Problem, order: Sequence[int], end: float) -> tuple[int, ...]:
    """Offsets on top of the highest that lives with each; none when the clock shows `end`."""
    offsets, skyline = [0] * problem.count, Skyline(problem.sections)
    for count, buffer in enumerate(order, 1):
        if count % CLOCK_EVERY == 0 and time.monotonic() > end:
            return ()
        first, last = problem.first[buffer], problem.last[buffer]
        offsets[buffer] = skyline.most(first, last)
        skyline.rise(first, last, offsets[buffer] + problem.size[buffer])
    return tuple(offsets)


def quick_portfolio(problem: Problem, goal: int, end: float) -> Greedy:
    """The best of `sweep`, which is always finished, and `stack_up` for every stack order."""
    offsets = sweep(problem)
    best = Greedy((), "first", offsets, problem.peak(offsets))
    for name, parts in RULES:
        if name != "stack":
            continue
        if best.peak <= goal or time.monotonic() > end:
            return best
        offsets = stack_up(problem, sorted_by(problem, name, parts), end)
        if not offsets:
            return best
        peak = problem.peak(offsets)
        if peak < best.peak:
            best = Greedy((), "first", offsets, peak)
    return best
