"""A trace: the lifetimes of one program, checked, with its lower bound. Imports no JAX."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from loomax.memory.lifetimes.record import Lifetime

# Sums of sizes, and times, stay within 64-bit integers.
MOST_BYTES = 2**60
MOST_TIME = 2**62


@dataclass(frozen=True)
class Trace:
    """Lifetimes that have been checked.

    Args:
        records: the buffers.
        source: where they come from; errors begin with it.
        lines: line of the source that each record stands on; empty: errors count records from 1.

    Raises:
        ValueError: a record is broken; the message names it and its line.
    """

    records: tuple[Lifetime, ...]
    source: str = "trace"
    lines: tuple[int, ...] = ()

    def __post_init__(self):
        check(self.records, self.where)

    def where(self, index: int) -> str:
        """Place and name of a record, for messages."""
        record = self.records[index]
        if self.lines:
            return f"{self.source}:{self.lines[index]}: buffer {record.id!r}"
        return f"{self.source}: buffer {record.id!r} (record {index + 1})"

    @cached_property
    def lower_bound(self) -> int:
        """Most bytes live at once, alignment included: no plan has a lower peak."""
        return max((live for _, live in live_bytes(blocks(self.records))), default=0)


def live_bytes(records: Iterable[Lifetime]) -> list[tuple[int, int]]:
    """Bytes live from each time on at which that changes, by a sweep over births and deaths."""
    change: dict[int, int] = defaultdict(int)
    for record in records:
        padded = record.padded
        change[record.birth] += padded
        change[record.death] -= padded
        for start, end in record.gaps:
            change[start] -= padded
            change[end] += padded
    live, found = 0, []
    for time in sorted(change):
        live += change[time]
        found.append((time, live))
    return found


def blocks(records: Sequence[Lifetime]) -> list[Lifetime]:
    """One record for each alias group, from its first birth to its last death; others as they are.

    The block has the group's first name, its largest size and its largest alignment, and no gaps.
    """
    groups: dict[str, list[Lifetime]] = defaultdict(list)
    for record in records:
        # An alias group may be called like a buffer.
        groups[f"alias {record.alias}" if record.alias else f"buffer {record.id}"].append(record)
    return [_block(group) for group in groups.values()]


def _block(group: Sequence[Lifetime]) -> Lifetime:
    head = group[0]
    if len(group) == 1:
        return head
    return Lifetime(
        head.id,
        max(record.size for record in group),
        min(record.birth for record in group),
        max(record.death for record in group),
        max(record.alignment for record in group),
        head.kind,
        head.phase,
        head.alias,
    )


def check(records: Sequence[Lifetime], where: Callable[[int], str]) -> None:
    """Refuses broken records.

    Raises:
        ValueError: a negative size, a bad alignment, a death that is not after the birth, a time
            beyond 2**62, a gap outside its life, a name that is taken, more bytes than fit, or two
            of an alias group that live at once.
    """
    seen: dict[str, int] = {}
    total = 0
    for index, record in enumerate(records):
        if record.size < 0:
            raise ValueError(f"{where(index)}: size is {record.size}: it must be 0 or more")
        if record.alignment < 1:
            raise ValueError(f"{where(index)}: alignment is {record.alignment}: give at least 1")
        if record.death <= record.birth:
            raise ValueError(
                f"{where(index)}: freed at {record.death}, allocated at {record.birth}: "
                "it must be freed after that"
            )
        if record.birth <= -MOST_TIME or record.death >= MOST_TIME:
            time = record.birth if record.birth <= -MOST_TIME else record.death
            raise ValueError(f"{where(index)}: time {time}: it must lie within 2**62 of 0")
        if record.gaps:
            _check_gaps(record, where(index))
        if record.id in seen:
            raise ValueError(f"{where(index)}: the name is taken by {where(seen[record.id])}")
        seen[record.id] = index
        total += record.padded
        if total > MOST_BYTES:
            raise ValueError(f"{where(index)}: all sizes up to here sum to {total}: over 2**60")
    _check_aliases(records, where)


def _check_gaps(record: Lifetime, where: str) -> None:
    before = record.birth
    for start, end in record.gaps:
        if not before <= start < end <= record.death:
            raise ValueError(
                f"{where}: gap {start}-{end}: gaps must come one after the other, within "
                f"[{record.birth}, {record.death})"
            )
        before = end


def _check_aliases(records: Sequence[Lifetime], where: Callable[[int], str]) -> None:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        if record.alias:
            groups[record.alias].append(index)
    for alias, indices in groups.items():
        indices.sort(key=lambda index: records[index].birth)
        for before, after in pairwise(indices):
            if records[before].meets(records[after]):
                raise ValueError(
                    f"{where(after)}: lives at the same time as {where(before)}, which has the "
                    f"same alias {alias!r}"
                )
