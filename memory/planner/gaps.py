"""Buffers with gaps: times within their life at which others may use their bytes. Imports no JAX.

The search plans every buffer for its whole life, which is valid. Here all are placed once more, one
after the other, each into the lowest place that is free at the times at which it holds something;
the lowest plan counts. Every pair is looked at, so that only traces of some thousands are tried.
"""

from collections.abc import Sequence

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.planner.twin.rounds import Found

MOST_BUFFERS = 5_000


def share_gaps(records: Sequence[Lifetime], sizes: Sequence[int], found: Found) -> Found:
    """The lowest of a plan without gaps and plans that use them.

    Args:
        sizes: of the records, in multiples of a common alignment.
        found: a plan of whole lives.
    """
    if len(records) > MOST_BUFFERS:
        return found
    every = range(len(records))
    held = [sum(end - start for start, end in record.spans) for record in records]
    orders = (
        sorted(every, key=lambda i: (found.offsets[i], i)),
        sorted(every, key=lambda i: (-sizes[i], i)),
        sorted(every, key=lambda i: (-sizes[i] * held[i], i)),
        sorted(every, key=lambda i: (-held[i], -sizes[i], i)),
    )
    for order in orders:
        offsets = _placed(records, sizes, order)
        peak = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
        if peak < found.peak:
            found = Found(offsets, peak, 0, "gaps", found.nodes)
    return found


def meet(one: Lifetime, other: Lifetime) -> bool:
    """Whether both hold something at some time."""
    if not one.meets(other):
        return False
    return any(a < d and c < b for a, b in one.spans for c, d in other.spans)


def _placed(records: Sequence[Lifetime], sizes: Sequence[int], order: Sequence[int]) -> list[int]:
    offsets = [0] * len(records)
    placed: list[int] = []
    for buffer in order:
        beside = [other for other in placed if meet(records[buffer], records[other])]
        level = 0
        for other in sorted(beside, key=lambda i: offsets[i]):
            if offsets[other] - level >= sizes[buffer]:
                break
            level = max(level, offsets[other] + sizes[other])
        offsets[buffer] = level
        placed.append(buffer)
    return offsets
