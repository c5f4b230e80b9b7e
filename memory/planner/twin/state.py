"""The state of the exact search: floors of sections, least offsets of buffers, and inference.

A floor is a level below which a section is finished. Placing a buffer at the highest floor below
it finishes everything beneath. What is inferred is listed in jaxlib_ext/csrc/planner_state.h.
"""

from collections.abc import Sequence

from loomax.memory.planner.twin.problem import NEVER, Index, Problem

# Births or deaths at one boundary of which all subsets are looked at.
MOST_SUBSETS = 7


class State:
    """Everything that the search changes; `undo` takes it back to an earlier `mark`."""

    def __init__(self, problem: Problem, index: Index, capacity: int):
        self.problem, self.index, self.capacity = problem, index, capacity
        sections, count = problem.sections, problem.count
        self.floor, self.top, self.options = [0] * sections, [0] * sections, [0] * sections
        self.weight = [1] * sections
        self.least, self.offset, self.placed = [0] * count, [0] * count, [False] * count
        self.waiting_bytes = [sum(problem.size[b] for b in live) for live in index.live]
        self.crossing = [0] * (sections + 1)
        for buffer in range(count):
            for boundary in problem.inside(buffer):
                self.crossing[boundary] += 1
        self._trail: list[tuple[list[int] | None, int, int]] = []
        # Lists without doubles, in order of arrival.
        self._queue: dict[int, None] = {}
        self._stale: set[int] = set()
        self._raised: list[int] = []
        self._uneven: set[int] = set()

    def start(self) -> bool:
        """The first inference, on the empty state."""
        for section in range(self.problem.sections):
            self._set_floor(section, self.floor[section])
        return self.propagate(0, self.problem.sections)

    def mark(self) -> int:
        return len(self._trail)

    def undo(self, mark: int) -> None:
        while len(self._trail) > mark:
            values, at, old = self._trail.pop()
            if values is not None:
                values[at] = old
                continue
            self.placed[at] = False
            for section in self.problem.span(at):
                self.waiting_bytes[section] += self.problem.size[at]
            for boundary in self.problem.inside(at):
                self.crossing[boundary] += 1

    def place(self, buffer: int) -> None:
        """Places a buffer at its least offset."""
        size = self.problem.size[buffer]
        level = self.least[buffer] + size
        self.offset[buffer], self.placed[buffer] = self.least[buffer], True
        self._trail.append((None, buffer, 0))
        for section in self.problem.span(buffer):
            self.waiting_bytes[section] -= size
            self._set_floor(section, level)
            self._set(self.top, section, level)
        for boundary in self.problem.inside(buffer):
            self.crossing[boundary] -= 1

    def raise_floor(self, section: int, level: int) -> None:
        """Leaves what is below `level` on a section empty."""
        self._set_floor(section, level)
        self._raised.append(section)

    def slack(self, section: int) -> int:
        """What a section can still waste."""
        return self.capacity - self.floor[section] - self.waiting_bytes[section]

    def waiting(self, buffers: Sequence[int]) -> list[int]:
        return [buffer for buffer in buffers if not self.placed[buffer]]

    def supported(self, buffer: int) -> bool:
        """Whether a buffer would lie on the bottom or on another one."""
        least = self.least[buffer]
        return least == 0 or any(self.top[s] == least for s in self.problem.span(buffer))

    def propagate(self, low: int, high: int) -> bool:
        """Draws all conclusions within sections [low, high); False: there is a contradiction."""
        fine = True
        while fine and self._queue:
            fine = all(self._release(section) for section in self._queue)
            self._queue = {}
            for section in range(low, high):
                if not fine or section not in self._stale:
                    continue
                self._stale.discard(section)
                fine = not self.waiting_bytes[section] or self._makespan(section)
        fine = fine and self._no_drop() and self._boundaries(low, high)
        self._queue, self._stale, self._raised, self._uneven = {}, set(), [], set()
        return fine

    def next_level(self, section: int) -> int:
        """Least level at which anything can lie on a section if nothing lies on its floor."""
        level = NEVER
        for buffer in self.waiting(self.index.live[section]):
            if self.least[buffer] > self.floor[section]:
                level = min(level, self.least[buffer])
                continue
            # It must lie on something that waits and does not reach this section.
            for place in self.problem.span(buffer):
                for other in self.waiting(self.index.live[place]):
                    if section not in self.problem.span(other):
                        level = min(level, self.least[other] + self.problem.size[other])
        return level

    def key(self, low: int, high: int) -> tuple:
        """What decides whether sections [low, high) can be finished."""
        births = (tuple(self.waiting(self.index.born[s])) for s in range(low, high))
        return (low, tuple(self.floor[low:high]), tuple(self.top[low:high]), tuple(births))

    def _set(self, values: list[int], at: int, value: int) -> None:
        if values[at] != value:
            self._trail.append((values, at, values[at]))
            values[at] = value

    def _set_floor(self, section: int, level: int) -> None:
        self._set(self.floor, section, level)
        self._uneven |= {section, section + 1}
        self._queue.setdefault(section)

    def _fail(self, section: int) -> bool:
        self.weight[section] += 1
        return False

    def _release(self, section: int) -> bool:
        """A floor rose: so do the least offsets of the buffers that wait on it."""
        if self.slack(section) < 0:
            return self._fail(section)
        self._stale.add(section)
        floor = self.floor[section]
        for buffer in self.waiting(self.index.live[section]):
            if self.least[buffer] >= floor:
                continue
            self._set(self.least, buffer, floor)
            if floor + self.problem.size[buffer] > self.capacity:
                return self._fail(section)
            self._stale.update(self.problem.span(buffer))
        return True

    def _makespan(self, section: int) -> bool:
        """One machine with release times (Jackson's rule), and how many lie on the floor."""
        waiting = sorted(self.waiting(self.index.live[section]), key=lambda b: self.least[b])
        lowest = end = self.least[waiting[0]]
        for buffer in waiting:
            end = max(end, self.least[buffer]) + self.problem.size[buffer]
        if end > self.capacity:
            return self._fail(section)
        self._set(self.options, section, sum(self.least[b] == lowest for b in waiting))
        if lowest > self.floor[section]:
            self.raise_floor(section, lowest)
        return True

    def _no_drop(self) -> bool:
        """No waiting buffer fits into a gap that is already finished."""
        for section in self._raised:
            for buffer in self.waiting(self.index.live[section]):
                span = self.problem.span(buffer)
                gap = min(self.floor[s] for s in span) - max(self.top[s] for s in span)
                if self.problem.size[buffer] <= gap:
                    return self._fail(section)
        return True

    def _boundaries(self, low: int, high: int) -> bool:
        return all(self._level(t) for t in range(low + 1, high) if t in self._uneven)

    def _level(self, boundary: int) -> bool:
        """Some births and deaths there, with the slack of both sides, must level the floors."""
        left, right = boundary - 1, boundary
        if not self.crossing[boundary] or self.floor[left] == self.floor[right]:
            return True
        dying = self.waiting(self.index.dying[boundary])
        born = self.waiting(self.index.born[boundary])
        if max(len(dying), len(born)) > MOST_SUBSETS:
            return True
        below, above = self._sums(dying, self.floor[left]), self._sums(born, self.floor[right])
        low, high = self.slack(right), self.slack(left)
        if any(a - low <= b <= a + high for a in below for b in above):
            return True
        return self._fail(left if self.floor[left] < self.floor[right] else right)

    def _sums(self, buffers: Sequence[int], base: int) -> set[int]:
        sums = {base}
        for buffer in buffers:
            sums |= {value + self.problem.size[buffer] for value in sums}
        return sums
