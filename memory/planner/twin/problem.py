"""Buffers with fixed lifetimes, and the sections of time between them."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

# Above every size and level.
NEVER = 2**63 // 4


@dataclass(frozen=True)
class Problem:
    """A buffer lives in sections [first, last); only maximal sections are kept."""

    sections: int
    first: tuple[int, ...]
    last: tuple[int, ...]
    size: tuple[int, ...]
    bound: int

    @property
    def count(self) -> int:
        return len(self.size)

    def width(self, buffer: int) -> int:
        return self.last[buffer] - self.first[buffer]

    def span(self, buffer: int) -> range:
        """Sections that a buffer lives in."""
        return range(self.first[buffer], self.last[buffer])

    def inside(self, buffer: int) -> range:
        """Boundaries that a buffer crosses."""
        return range(self.first[buffer] + 1, self.last[buffer])

    def meet(self, a: int, b: int) -> bool:
        return self.first[a] < self.last[b] and self.first[b] < self.last[a]

    def peak(self, offsets: Sequence[int]) -> int:
        return max((o + s for o, s in zip(offsets, self.size, strict=True)), default=0)


@dataclass(frozen=True)
class Index:
    """Buffers that live in each section, and that are born and die at each boundary."""

    live: tuple[tuple[int, ...], ...]
    born: tuple[tuple[int, ...], ...]
    dying: tuple[tuple[int, ...], ...]


def make_problem(lower: Sequence[int], upper: Sequence[int], size: Sequence[int]) -> Problem:
    starts = section_starts(lower, upper)
    first = tuple(bisect_left(starts, time) for time in lower)
    last = tuple(bisect_left(starts, time) for time in upper)
    change = [0] * (len(starts) + 1)
    for begin, end, bytes_ in zip(first, last, size, strict=True):
        change[begin] += bytes_
        change[end] -= bytes_
    live = bound = 0
    for step in change:
        live += step
        bound = max(bound, live)
    return Problem(len(starts), first, last, tuple(size), bound)


def section_starts(lower: Sequence[int], upper: Sequence[int]) -> list[int]:
    """Start times of the maximal sections: the last birth before each run of deaths."""
    births, deaths = set(lower), set(upper)
    starts, birth = [], None
    for time in sorted(births | deaths):
        if time in deaths and birth is not None:
            starts.append(birth)
            birth = None
        if time in births:
            birth = time
    return starts


def make_index(problem: Problem) -> Index:
    live, born, dying = defaultdict(list), defaultdict(list), defaultdict(list)
    for buffer in range(problem.count):
        for section in problem.span(buffer):
            live[section].append(buffer)
        born[problem.first[buffer]].append(buffer)
        dying[problem.last[buffer]].append(buffer)
    places = range(problem.sections + 1)
    return Index(
        tuple(tuple(live[s]) for s in places[:-1]),
        tuple(tuple(born[t]) for t in places),
        tuple(tuple(dying[t]) for t in places),
    )
