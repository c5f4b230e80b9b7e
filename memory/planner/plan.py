"""A plan: an offset for every buffer, and what is known about it. Imports no JAX."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace


@dataclass(frozen=True)
class Plan:
    """Offsets of a trace's buffers.

    Args:
        offsets: of each buffer, by name.
        peak: bytes that the plan needs.
        lower_bound: what no plan of this trace can go below: most bytes live at once, or more
            where the search has proved more.
        seconds: that it took.
        method: what found it: "greedy", "local", "search" or "groups".
        nodes: of the exact search.
        native: whether the compiled planner made it.
    """

    offsets: Mapping[str, int]
    peak: int
    lower_bound: int
    seconds: float
    method: str
    nodes: int = 0
    native: bool = False

    @property
    def optimal(self) -> bool:
        """Whether it is proved that no plan has a lower peak."""
        return self.peak <= self.lower_bound

    @property
    def gap(self) -> float:
        """How far the peak lies above the lower bound, relative to that."""
        return self.peak / self.lower_bound - 1 if self.lower_bound else 0.0


def check_plan(trace: Trace, offsets: Mapping[str, int], capacity: int) -> None:
    """Checks a plan by a sweep over time, independently of how it was made.

    Raises:
        ValueError: a buffer has no offset or a misaligned one, leaves [0, capacity), or two that
            live at once overlap; the message names them.
    """
    for record in trace.records:
        offset = offsets.get(record.id)
        if offset is None:
            raise ValueError(f"buffer {record.id!r} has no offset")
        if offset % record.alignment:
            raise ValueError(f"{record.id!r} at {offset}: not a multiple of {record.alignment}")
        if offset < 0 or offset + record.size > capacity:
            end = offset + record.size
            raise ValueError(f"{record.id!r} at [{offset}, {end}): not within [0, {capacity})")
    # Deaths come before births of the same time. What is live is disjoint, so that a new buffer
    # meets its neighbours in memory first.
    filled = [record for record in trace.records if record.size > 0]
    spans = [(span, index) for index, record in enumerate(filled) for span in record.spans]
    events = sorted(
        [(end, 0, index) for (_, end), index in spans]
        + [(start, 1, index) for (start, _), index in spans]
    )
    live: list[tuple[int, int]] = []
    for _, birth, index in events:
        record = filled[index]
        place = (offsets[record.id], index)
        at = bisect_left(live, place)
        if not birth:
            del live[at]
            continue
        for _, neighbour in live[max(at - 1, 0) : at + 1]:
            _check_pair(record, filled[neighbour], offsets)
        live.insert(at, place)


def _check_pair(one: Lifetime, other: Lifetime, offsets: Mapping[str, int]) -> None:
    low, high = offsets[one.id], offsets[other.id]
    if low < high + other.size and high < low + one.size:
        raise ValueError(
            f"{one.id!r} at [{low}, {low + one.size}) and {other.id!r} at "
            f"[{high}, {high + other.size}) live at once and overlap"
        )
