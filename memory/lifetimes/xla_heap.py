"""Lifetimes within one XLA allocation, from the steps of XLA's own allocator. Imports no JAX.

Times are numbers of steps. XLA's steps and offsets do not always agree: an operation may write
its result over an operand without a step that says so. Bytes belong to whoever got them last, so
a buffer ends at the latest when another one starts in its bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loomax.memory.lifetimes.xla_proto import EVENTS, FREE, SHARE, Event, Slot


@dataclass
class Life:
    """A buffer in its place; `group` tells buffers that pass on one piece of memory."""

    slot: Slot
    birth: int
    death: int
    group: tuple[int, int]

    def touches(self, other: Slot) -> bool:
        """Whether both share a byte."""
        return overlap(self.slot, other)


def overlap(one: Slot, other: Slot) -> bool:
    """Whether two places share a byte."""
    return one.offset < other.offset + other.size and other.offset < one.offset + one.size


def live_ranges(
    events: Sequence[Event], slots: Mapping[int, Slot], names: Mapping[int, str], where: str
) -> list[Life]:
    """Life of each buffer of an allocation that XLA's steps speak of, in order of birth.

    Args:
        events: the steps, those for buffers in other allocations too.
        slots: place of each buffer of this allocation.
        names: of buffers, for errors.
        where: what the steps belong to, for errors.

    Raises:
        ValueError: a buffer is allocated twice, or freed before or twice.
    """
    heap = _Heap(slots, len(events))
    for time, event in enumerate(events):
        if event.buffer not in slots:
            continue
        name = names[event.buffer]
        if event.kind != FREE:
            if event.buffer in heap.born:
                raise ValueError(
                    f"{where}: step {time + 1} ({EVENTS[event.kind]}): {name!r} has been allocated"
                )
            heap.add(event, time)
        elif not heap.free(event.buffer, time):
            done = "has been freed" if event.buffer in heap.freed else "was never allocated"
            raise ValueError(f"{where}: step {time + 1} (free): {name!r} {done}")
    return heap.lives


class _Heap:
    """What is live while the steps are followed."""

    def __init__(self, slots: Mapping[int, Slot], end: int):
        self.slots, self.end = slots, end
        self.lives: list[Life] = []
        self.live: dict[int, Life] = {}
        self.born: set[int] = set()
        self.freed: set[int] = set()
        self.roots: dict[int, int] = {}
        # A piece of memory that others have used in between is a new piece.
        self.piece: dict[int, int] = {}
        self.last_birth = -1
        self.ended: dict[int, int] = {}

    def add(self, event: Event, time: int) -> None:
        slot = self.slots[event.buffer]
        root = self._root(event)
        self._end_those_in(slot, root, time)
        life = Life(slot, time, self.end, (root, self.piece.setdefault(root, 0)))
        self.roots[event.buffer] = root
        self.born.add(event.buffer)
        self.live[event.buffer] = life
        self.lives.append(life)
        self.last_birth = time

    def free(self, buffer: int, time: int) -> bool:
        """Whether that was in order."""
        if buffer not in self.born or buffer in self.freed:
            return False
        self.freed.add(buffer)
        life = self.live.pop(buffer, None)
        if life is not None:
            self._end(life, time)
        return True

    def _end(self, life: Life, time: int) -> None:
        life.death = time
        self.ended[life.group[0]] = time

    def _root(self, event: Event) -> int:
        other = self.slots.get(event.other)
        same = other is not None and other.offset == self.slots[event.buffer].offset
        if event.kind != SHARE or event.other not in self.born or not same:
            return event.buffer
        root = self.roots[event.other]
        alive = any(life.group[0] == root for life in self.live.values())
        if not alive and self.last_birth > self.ended[root]:
            self.piece[root] += 1
        return root

    def _end_those_in(self, slot: Slot, root: int, time: int) -> None:
        for buffer in [buffer for buffer, life in self.live.items() if life.touches(slot)]:
            life = self.live.pop(buffer)
            self._end(life, time)
            if life.group[0] != root:
                self.piece[life.group[0]] += 1


def merge_places(slots: Sequence[Slot]) -> list[tuple[Slot, list[int]]]:
    """Places that overlap become one; beside each, its buffers, the largest first."""
    groups: list[tuple[Slot, list[Slot]]] = []
    for slot in sorted(slots, key=lambda slot: (slot.offset, -slot.size)):
        if groups and overlap(groups[-1][0], slot):
            first, members = groups[-1]
            end = max(first.offset + first.size, slot.offset + slot.size)
            groups[-1] = (Slot(first.buffer, first.offset, end - first.offset), [*members, slot])
        else:
            groups.append((slot, [slot]))
    return [
        (place, [slot.buffer for slot in sorted(members, key=lambda slot: -slot.size)])
        for place, members in groups
    ]
