"""`Planned`, compiled: the same addresses and counts, event for event. Imports no JAX."""

from collections.abc import Mapping, Sequence

import numpy as np

from loomax.jaxlib_ext import online
from loomax.memory.allocator.planned import Counts, Planned, checked_blocks
from loomax.memory.allocator.predict import Known, Learned, Predictor
from loomax.memory.allocator.protocol import check_free, check_malloc
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace


def make_planned(
    trace: Trace,
    offsets: Mapping[str, int],
    predictor: Predictor | None = None,
    capacity: int | None = None,
    alignment: int = 512,
) -> "PlannedNative | Planned":
    """`PlannedNative`, or `Planned` where there is no compiled allocator."""
    make = PlannedNative if online.available() else Planned
    return make(trace, offsets, predictor, capacity, alignment)


def run(allocator: "PlannedNative | Planned", events: Sequence[tuple[bool, Lifetime]]) -> None:
    """Does events (`replay.events`), in one call where the allocator is compiled.

    Raises:
        MemoryError: as `Allocator.malloc`; the compiled one goes on to the end before.
    """
    if isinstance(allocator, PlannedNative):
        found = allocator.replay(
            [allocator.number(record.id) for _, record in events],
            [record.size if born else -1 for born, record in events],
        )
        if (found == online.NO_ROOM).any():
            _, record = events[int((found == online.NO_ROOM).argmax())]
            raise MemoryError(f"buffer {record.id!r}: {record.size} bytes do not fit")
        return
    for born, record in events:
        if born:
            allocator.malloc(record.id, record.size)
        else:
            allocator.free(record.id)


class PlannedNative:
    """As `Planned`; what it learns is in its own `learned()`, and not in the predictor.

    Args:
        predictor: what is known at the beginning.

    Raises:
        ValueError: as `Planned`, or the predictor is neither `Learned` nor `Known`.
        RuntimeError: there is no compiled allocator.
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
        learned = Learned() if predictor is None else predictor
        if not isinstance(learned, Learned | Known):
            raise ValueError(f"predictor is {predictor!r}: give Learned or Known, or use Planned")
        self._learns = isinstance(learned, Learned)
        self._core = online.Online(
            [(r.birth, r.death, offsets[r.id], r.padded, r.alignment) for r in records],
            min((r.birth for r in records), default=0),
            max((r.death for r in records), default=0),
            alignment,
            capacity,
            self._learns,
        )
        self.capacity = capacity
        self._numbers = {record.id: number for number, record in enumerate(records)}
        self._count = len(records)
        times = learned.spans if isinstance(learned, Learned) else learned.deaths
        for id, time in times.items():
            if self.number(id) >= self._count:
                self._core.predict(self.number(id), time)

    def number(self, id: str) -> int:
        """The number of a name, for `replay`; a new one gets the next."""
        return self._numbers.setdefault(id, len(self._numbers))

    def malloc(self, id: str, size: int) -> int:
        """As `Allocator.malloc`."""
        check_malloc(id, size, False)
        found = self._core.malloc(self.number(id), size)
        if found == online.NO_ROOM:
            end = self._core.state()["wanted"]
            raise MemoryError(
                f"buffer {id!r}: {size} bytes do not fit: they would end at {end}, and the "
                f"capacity is {self.capacity}"
            )
        check_malloc(id, size, found == online.LIVE)
        _check_core(found)
        return found

    def free(self, id: str) -> None:
        """As `Allocator.free`."""
        known = id in self._numbers
        done = self._core.free(self._numbers[id]) if known else online.NOT_LIVE
        check_free(id, done != online.NOT_LIVE)
        _check_core(done)

    def replay(
        self, numbers: Sequence[int] | np.ndarray, sizes: Sequence[int] | np.ndarray
    ) -> np.ndarray:
        """Does E events in one call.

        Args:
            numbers: [E] of buffers (`number`).
            sizes: [E] bytes to allocate; below 0: the buffer is freed. To free what found no room
                is nothing.

        Returns:
            int64[E]: addresses; -1 for what found no room, 0 for what was freed.

        Raises:
            ValueError: a live buffer is allocated, or freed what is not live; all before is done.
        """
        numbers, sizes = np.asarray(numbers, np.int64), np.asarray(sizes, np.int64)
        if numbers.shape != sizes.shape or numbers.ndim != 1:
            raise ValueError(f"numbers {numbers.shape}, sizes {sizes.shape}: give equal lengths")
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self._numbers):
            raise ValueError(f"numbers must be 0 to {len(self._numbers) - 1}: use number(name)")
        done, found = self._core.replay(numbers, sizes)
        if done < len(numbers):
            id = next(name for name, at in self._numbers.items() if at == numbers[done])
            wrong = int(found[done])
            check_malloc(id, 0, wrong == online.LIVE)
            check_free(id, wrong != online.NOT_LIVE)
            _check_core(wrong)
        return found

    def learned(self) -> Learned:
        """As `Planned.learned`, in a new object."""
        if not self._learns:
            return Learned()
        names = list(self._numbers)[self._count :]
        spans = self._core.predictions(self._count, len(self._numbers))
        found = zip(names, spans, strict=True)
        return Learned({name: span for name, span in found if span != online.NONE})

    @property
    def reserved(self) -> int:
        """As `Allocator.reserved`."""
        return self._core.state()["reserved"]

    @property
    def allocated(self) -> int:
        """As `Allocator.allocated`."""
        return self._core.state()["allocated"]

    @property
    def peak(self) -> int:
        """The plan's."""
        return self._core.state()["peak"]

    @property
    def counts(self) -> Counts:
        """As `Planned.counts`."""
        state = self._core.state()
        return Counts(*(state[name] for name in ("hits", "gaps", "fallback", "missed", "growth")))


def _check_core(found: int) -> None:
    if found == online.FAILED:
        raise RuntimeError("the compiled allocator has no memory left for its own tables")
