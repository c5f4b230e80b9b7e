"""The plan at run time: planned buffers get their places, all others gaps between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm

from loomax.memory.allocator.calendar import Calendar
from loomax.memory.allocator.places import Place, Places, best_gap
from loomax.memory.allocator.predict import Learned, Predictor
from loomax.memory.allocator.protocol import check_capacity, check_free, check_malloc, round_up
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace, blocks


@dataclass
class Counts:
    """What happened to requests.

    Args:
        hits: planned buffers that got their place.
        gaps: other requests that fitted below the plan's peak.
        fallback: other requests that lie above it, in part or whole.
        missed: planned buffers that did not get their place, as it was taken or too small; they
            are among gaps and fallback.
        growth: bytes by which all that was reserved went over the plan's peak.
    """

    hits: int = 0
    gaps: int = 0
    fallback: int = 0
    missed: int = 0
    growth: int = 0


@dataclass(frozen=True)
class _Held:
    place: Place
    born: int
    record: Lifetime | None


class Planned:
    """An allocator (`memory.allocator.protocol`) that follows a plan and improvises the rest.

    Time is the plan's: the birth or death of the planned buffer that was last allocated or freed.
    After the last death the plan begins again. What is not planned lies clear of all that is live,
    and of the places that the plan needs before the time at which it will be free again, as far as
    that is predicted; otherwise of all places of the plan. A wrong prediction costs memory, never
    an overlap: a planned buffer whose place is taken is placed like the others.

    Where nothing is planned there is no time either: the smallest gap between live buffers is
    taken, and only if there is none, what lies behind all of them ("wilderness preservation";
    Korn and Vo, "In Search of a Better Malloc", USENIX 1985). So the end stays free for large
    requests.

    Args:
        trace: the planned buffers; those of an alias group are one, with the name of the first.
        offsets: their places.
        predictor: of what is not planned; None: learns from earlier lives of the same name.
        capacity: bytes that it may reserve; None: no limit.
        alignment: of what is not planned; sizes are rounded up to it.

    Raises:
        ValueError: a buffer has no offset or a negative one, the alignment is below 1, or the
            capacity is below the plan's peak.
    """

    def __init__(
        self,
        trace: Trace,
        offsets: Mapping[str, int],
        predictor: Predictor | None = None,
        capacity: int | None = None,
        alignment: int = 512,
    ):
        records = checked_blocks(trace, offsets, capacity, alignment)
        self._planned = {record.id: record for record in records}
        self._offsets = {record.id: offsets[record.id] for record in records}
        self._calendar = Calendar(records, self._offsets)
        self._predictor = Learned() if predictor is None else predictor
        self._alignment = alignment
        self._live: dict[str, _Held] = {}
        self._used = Places()
        self.peak = _peak(records, offsets)
        self.capacity = capacity
        self.reserved = self.peak
        self.allocated = 0
        self.counts = Counts()

    def malloc(self, id: str, size: int) -> int:
        """As `Allocator.malloc`."""
        check_malloc(id, size, id in self._live)
        record = self._planned.get(id)
        if record is None:
            place = self._improvise(id, size, self._alignment, self._predicted(id))
        else:
            place = self._place(record, size)
        self._used.add(*place)
        self.allocated += place[1] - place[0]
        self._live[id] = _Held(place, self._calendar.started, record)
        return place[0]

    def free(self, id: str) -> None:
        """As `Allocator.free`."""
        check_free(id, id in self._live)
        held = self._live.pop(id)
        self._used.remove(*held.place)
        self.allocated -= held.place[1] - held.place[0]
        if held.record is not None:
            self._calendar.died(held.record)
        else:
            self._predictor.freed(id, self._calendar.reached - held.born)

    def learned(self) -> Learned:
        """What its predictor has learned; nothing, if it does not learn."""
        return self._predictor if isinstance(self._predictor, Learned) else Learned()

    def _place(self, record: Lifetime, size: int) -> Place:
        """A place for a planned buffer: its own, if that is possible."""
        self._calendar.born(record)
        place = self._own_place(record, size)
        if place is not None:
            self.counts.hits += 1
            return place
        alignment = lcm(self._alignment, record.alignment)
        try:
            place = self._improvise(record.id, size, alignment, record.death)
        except MemoryError:
            self._calendar.refused(record)
            raise
        self.counts.missed += 1
        return place

    def _own_place(self, record: Lifetime, size: int) -> Place | None:
        """The planned place, or None where it is taken or too small."""
        low = self._offsets[record.id]
        high = low + record.padded
        if low == high == low + size:
            return low, low
        return (low, high) if size <= record.padded and self._used.clear(low, high) else None

    def _predicted(self, id: str) -> int | None:
        return self._predictor.death(id, self._calendar.now)

    def _improvise(self, id: str, size: int, alignment: int, until: int | None) -> Place:
        """The smallest gap until then, or else the end of all that is in the way."""
        asked, size = size, round_up(size, alignment)
        if not size:
            return 0, 0
        planned = self._calendar.needed(until)
        end = self.reserved if self._planned else None
        low = best_gap(self._used.ranges + planned, size, end, alignment)
        if not self._room(low + size):
            # Rather in the way of the plan than not at all.
            low = best_gap(self._used.ranges, size, end, alignment)
        if not self._room(low + size):
            raise MemoryError(
                f"buffer {id!r}: {asked} bytes do not fit: they would end at {low + size}, and the "
                f"capacity is {self.capacity}"
            )
        self.reserved = max(self.reserved, low + size)
        self.counts.growth = self.reserved - self.peak
        if low + size <= self.peak:
            self.counts.gaps += 1
        else:
            self.counts.fallback += 1
        return low, low + size

    def _room(self, end: int) -> bool:
        return self.capacity is None or end <= self.capacity


def checked_blocks(
    trace: Trace, offsets: Mapping[str, int], capacity: int | None, alignment: int
) -> list[Lifetime]:
    """The planned buffers, one for each alias group, when all that a plan needs is there.

    Raises:
        ValueError: as `Planned`.
    """
    check_capacity(capacity)
    if alignment < 1:
        raise ValueError(f"alignment is {alignment}: give at least 1")
    records = blocks(trace.records)
    for record in records:
        if offsets.get(record.id, -1) < 0:
            raise ValueError(f"buffer {record.id!r} has no offset of 0 or more in the plan")
    if capacity is not None and capacity < _peak(records, offsets):
        needed = _peak(records, offsets)
        raise ValueError(f"capacity is {capacity}: the plan alone needs {needed}")
    return records


def _peak(records: Sequence[Lifetime], offsets: Mapping[str, int]) -> int:
    return max((offsets[record.id] + record.padded for record in records), default=0)
