"""Plans of a loop: every iteration uses the offsets of the first. Imports no JAX.

Time runs in a circle of one period. The circle is cut where the fewest bytes live across; what
does keeps its place for the whole period, which costs nothing for buffers that live
through every iteration, such as parameters.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace, blocks, live_bytes
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import DEFAULT, pack
from loomax.memory.planner.plan import Plan


def pack_periodic(trace: Trace, period: int, config: PackConfig = DEFAULT) -> Plan:
    """Offsets that hold in every iteration of a loop.

    Args:
        trace: one iteration; a buffer may live on into the next one, for at most one period. Times
            count modulo the period. Alias groups lie within one period too.

    Returns:
        The plan; its lower bound is the most bytes live at once on the circle.

    Raises:
        ValueError: a period below 1, a buffer that would meet itself in the next iteration, or as
            `pack`.
    """
    if period < 1:
        raise ValueError(f"period is {period}: give at least 1")
    parts = blocks(trace.records)
    for part in parts:
        if part.gaps:
            raise ValueError(
                f"{trace.source}: buffer {part.id!r} has gaps, which are not planned in loops"
            )
        if part.death - part.birth > period:
            raise ValueError(
                f"{trace.source}: buffer {part.id!r} lives for {part.death - part.birth}, longer "
                f"than the period {period}: the next iteration needs it too; make it two buffers"
            )
    cut = _cheapest_cut(parts, period)
    plan = pack(Trace(tuple(_opened(p, cut, period) for p in parts), trace.source), config)
    names = {part.alias: part.id for part in parts if part.alias}
    offsets = {r.id: plan.offsets[names[r.alias] if r.alias else r.id] for r in trace.records}
    # What lives at any time of the last of three iterations lives in all that follow.
    profile = live_bytes(unrolled(parts, period))
    last = [live for time, live in profile if time <= 2 * period][-1:]
    bound = max([live for time, live in profile if 2 * period <= time < 3 * period] + last + [0])
    return replace(plan, offsets=offsets, lower_bound=bound)


def unrolled(records: Sequence[Lifetime], period: int, iterations: int = 3) -> list[Lifetime]:
    """The buffers of several iterations, named ID@ITERATION."""
    return [
        replace(
            record,
            id=f"{record.id}@{turn}",
            birth=record.birth % period + turn * period,
            death=record.birth % period + turn * period + record.death - record.birth,
        )
        for turn in range(iterations)
        for record in records
    ]


def _cheapest_cut(records: Sequence[Lifetime], period: int) -> int:
    """The time of the circle that the fewest bytes live across.

    What lives for the whole period costs nothing wherever the circle is cut.
    """
    parts = unrolled([r for r in records if r.death - r.birth < period], period, 2)
    born: dict[int, int] = defaultdict(int)
    for part in parts:
        born[part.birth] += part.padded
    across = [(live - born[time], time) for time, live in live_bytes(parts) if time >= period]
    return min(((bytes_, time) for bytes_, time in across if time < 2 * period), default=(0, 0))[1]


def _opened(record: Lifetime, cut: int, period: int) -> Lifetime:
    """A buffer on the circle as one on a line that begins at the cut."""
    birth = (record.birth - cut) % period
    death = birth + record.death - record.birth
    if death > period:
        birth, death = 0, period
    return replace(record, birth=birth, death=death, alias="")
