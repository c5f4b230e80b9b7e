"""A plan as a calendar: the time, and the places that a span of time needs. Imports no JAX."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from loomax.memory.lifetimes.record import Lifetime


class Calendar:
    """The planned buffers in the order of their births; after the last the first come again.

    `now` is the time of the plan's last event, `turn` counts iterations. Events that come a little
    later than planned do not set the time back.

    Args:
        records: planned buffers.
        offsets: their offsets, by name.
    """

    def __init__(self, records: Sequence[Lifetime], offsets: Mapping[str, int]):
        ordered = sorted((r for r in records if r.size), key=lambda record: record.birth)
        self._births = [record.birth for record in ordered]
        self._places = [
            (offsets[record.id], offsets[record.id] + record.padded) for record in ordered
        ]
        self._begin = min((record.birth for record in records), default=0)
        self._end = max((record.death for record in records), default=0)
        self.period = self._end - self._begin
        self.now, self.turn = self._begin, 0
        self._last_birth = False
        # The iteration of each buffer's last birth.
        self._turns: dict[str, int] = {}

    @property
    def started(self) -> int:
        """The time now, counted through all iterations."""
        return self.turn * self.period + self.now

    @property
    def reached(self) -> int:
        """The end of the time that is over, counted through all iterations."""
        return self.started + self._last_birth

    def born(self, record: Lifetime) -> None:
        """A planned buffer is allocated.

        One that was born in this iteration already, or lies far back, begins the next iteration.
        """
        again = self._turns.get(record.id) == self.turn
        if again or 2 * (self.now - record.birth) > self.period:
            self.turn += 1
            self.now, self._last_birth = record.birth, True
        elif record.birth >= self.now:
            self.now, self._last_birth = record.birth, True
        self._turns[record.id] = self.turn

    def refused(self, record: Lifetime) -> None:
        """It was not allocated after all, and may be again in this iteration."""
        del self._turns[record.id]

    def died(self, record: Lifetime) -> None:
        """A planned buffer is freed; one of an earlier iteration does not move the time."""
        if self._turns[record.id] == self.turn and record.death > self.now:
            self.now, self._last_birth = record.death, False

    def needed(self, until: int | None) -> list[tuple[int, int]]:
        """Places [low, high) of the buffers that are born in [now, until), or of all.

        Args:
            until: time in this iteration's plan; one that is over lies in the next iteration.
        """
        if until is None:
            return self._places
        if until < self.now:
            until += self.period
        if until - self.now >= self.period:
            return self._places
        found = self._between(self.now, until)
        after = until - self.period
        return found + self._between(self._begin, after) if after > self._begin else found

    def _between(self, start: int, stop: int) -> list[tuple[int, int]]:
        low, high = bisect_left(self._births, start), bisect_left(self._births, stop)
        return self._places[low:high]
