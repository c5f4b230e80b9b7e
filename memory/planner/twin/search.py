"""Exact search for a plan within a capacity: depth first over "what lies on this floor?".

Described in jaxlib_ext/csrc/planner_search.h.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Literal

from loomax.memory.planner.twin.greedy import Order, sorted_by
from loomax.memory.planner.twin.problem import Index, Problem
from loomax.memory.planner.twin.random import SplitMix
from loomax.memory.planner.twin.state import State

Outcome = Literal["found", "impossible", "stopped"]
Prefer = Literal["large", "long", "area", "short"]
Tie = Literal["floor", "slack"]

REMEMBERED = 1_000_000
DEPTH = 8_000
# Nodes of larger problems take longer than to look at the clock.
QUICK_COUNT = 600
# Of Python, for one decision; a buffer can take two.
FRAMES = 12
ORDER_OF: dict[Prefer, Order] = {
    "large": "size",
    "area": "area",
    "long": "length",
    "short": "length",
}


@contextlib.contextmanager
def recursion(frames: int) -> Iterator[None]:
    """Allows so many more frames: since Python 3.11 they take no room on the C stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Search:
    """One strategy: in which order buffers are tried, and what decides between equal sections."""

    def __init__(
        self, problem: Problem, index: Index, capacity: int, prefer: Prefer, tie: Tie, seed: int
    ):
        self.problem, self.prefer, self.tie, self.seed = problem, prefer, tie, seed
        self.state = State(problem, index, capacity)
        self.nodes = self._last_node = self._runs = 0
        self._end = 0.0
        self._stopped = False
        self._failed: set[tuple] = set()
        self._rank: list[int] = []

    def run(self, nodes: int, end: float) -> Outcome:
        """Searches for `nodes` more nodes; every call after the first shuffles the order."""
        if time.monotonic() > end:
            return "stopped"
        self._last_node, self._end, self._stopped = self.nodes + nodes, end, False
        self._rank_buffers()
        self._runs += 1
        mark = self.state.mark()
        try:
            with recursion(FRAMES * self.problem.count):
                if self.state.start() and self._parts(0, self.problem.sections, 0):
                    return "found"
        except RecursionError:
            self._stopped = True
        self.state.undo(mark)
        return "stopped" if self._stopped else "impossible"

    def _rank_buffers(self) -> None:
        """The preferred order; from the second run on each moves by up to a sixth of all."""
        count = self.problem.count
        order = sorted_by(self.problem, ORDER_OF[self.prefer])
        if self.prefer == "short":
            order.reverse()
        random = SplitMix(self.seed + 1_000_003 * self._runs)
        key = [0] * count
        for at, buffer in enumerate(order):
            key[buffer] = 6 * at + (random.below(count) if self._runs else 0)
        order.sort(key=lambda buffer: key[buffer])
        self._rank = [0] * count
        for at, buffer in enumerate(order):
            self._rank[buffer] = at

    def _out_of_budget(self, depth: int) -> bool:
        self.nodes += 1
        if self.nodes > self._last_node or depth > DEPTH:
            self._stopped = True
        looks = self.problem.count > QUICK_COUNT or self.nodes % 64 == 0
        if looks and time.monotonic() > self._end:
            self._stopped = True
        return self._stopped

    def _parts(self, low: int, high: int, depth: int) -> bool:
        """Splits [low, high) where nothing that waits crosses, solves the smallest part first."""
        state, found, begin, waiting = self.state, [], low, 0
        for section in range(low, high):
            waiting += len(state.waiting(state.index.born[section]))
            if section + 1 < high and state.crossing[section + 1]:
                continue
            if waiting:
                found.append((waiting, begin, section + 1))
            begin, waiting = section + 1, 0
        return all(self._solve(first, last, depth) for _, first, last in sorted(found))

    def _solve(self, low: int, high: int, depth: int) -> bool:
        if self._out_of_budget(depth):
            return False
        key = self.state.key(low, high)
        if key in self._failed:
            return False
        section = self._choose(low, high)
        if self._answers(section, low, high, depth):
            return True
        if not self._stopped and len(self._failed) < REMEMBERED:
            self._failed.add(key)
        return False

    def _choose(self, low: int, high: int) -> int:
        """The section of a niche to ask next."""
        floor, best, begin = self.state.floor, -1, low
        while begin < high:
            end = begin
            while end < high and floor[end] == floor[begin]:
                end += 1
            left = begin == low or floor[begin - 1] > floor[begin]
            right = end == high or floor[end] > floor[begin]
            for section in range(begin, end) if left and right else ():
                if self._answer_count(section) <= 1:
                    return section
                if best < 0 or self._better(section, best):
                    best = section
            begin = end
        return best

    def _answer_count(self, section: int) -> int:
        return self.state.options[section] + (self.state.slack(section) > 0)

    def _better(self, section: int, than: int) -> bool:
        weight = self.state.weight
        own = self._answer_count(section) * weight[than]
        other = self._answer_count(than) * weight[section]
        if own != other:
            return own < other
        if self.tie == "slack":
            return self.state.slack(section) < self.state.slack(than)
        return self.state.floor[section] < self.state.floor[than]

    def _candidates(self, section: int) -> list[int]:
        """Waiting buffers that can lie on the floor of a section, one of each kind."""
        state, problem = self.state, self.problem
        kinds: dict[tuple[int, int, int], int] = {}
        for buffer in state.waiting(state.index.live[section]):
            kind = (problem.first[buffer], problem.last[buffer], problem.size[buffer])
            on_floor = state.least[buffer] == state.floor[section]
            if on_floor and kind not in kinds and state.supported(buffer):
                kinds[kind] = buffer
        return sorted(kinds.values(), key=lambda buffer: self._rank[buffer])

    def _answers(self, section: int, low: int, high: int, depth: int) -> bool:
        state = self.state
        mark = state.mark()
        for buffer in self._candidates(section):
            state.place(buffer)
            if self._follow(low, high, depth):
                return True
            state.undo(mark)
            if self._stopped:
                return False
        level = state.next_level(section)
        if level + state.waiting_bytes[section] > state.capacity:
            return False
        state.raise_floor(section, level)
        if self._follow(low, high, depth):
            return True
        state.undo(mark)
        return False

    def _follow(self, low: int, high: int, depth: int) -> bool:
        return self.state.propagate(low, high) and self._parts(low, high, depth + 1)
