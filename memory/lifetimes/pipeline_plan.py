"""Plans of a pipeline's trace: an order of placing that fits how training uses memory.

What lives on from one phase into another (residuals) forms a stack for each microbatch, which the
backward phase takes down from the top: of these the one that dies last goes lowest. A layer's
temporaries then find in one piece what its backward phase, or the forward phases to come, leave
free in the stacks. Orders that look at sizes first scatter that room. Imports no JAX.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import DEFAULT, common_alignment, pack
from loomax.memory.planner.plan import Plan


def plan_pipeline(trace: Trace, config: PackConfig = DEFAULT) -> Plan:
    """The plan by phases, or the planner's own where that one is not within `config.gap`.

    Args:
        trace: with phases "A -> B"; what has none lives throughout and lies lowest.
        config: of `pack`, which is tried with each strategy.

    Raises:
        ValueError: alias groups, or as `pack`.
    """
    best = plan_by_phase(trace)
    for strategy in ("portfolio", "groups"):
        if best.gap > config.gap:
            best = min(best, pack(trace, replace(config, strategy=strategy)), key=lambda p: p.peak)
    return best


def plan_by_phase(trace: Trace) -> Plan:
    """Places buffers in the order of `phase_order`, each as low as it can be.

    Raises:
        ValueError: alias groups.
    """
    start = time.perf_counter()
    for record in trace.records:
        if record.alias:
            raise ValueError(
                f"{trace.source}: buffer {record.id!r} has alias {record.alias!r}: plans by phase "
                "take no alias groups; use pack"
            )
    records = phase_order([record for record in trace.records if record.size])
    offsets = {record.id: 0 for record in trace.records}
    peak = 0
    if records:
        _, sizes = common_alignment(records)
        places = first_fit(records, sizes)
        offsets |= {record.id: place for record, place in zip(records, places, strict=True)}
        peak = max(place + size for place, size in zip(places, sizes, strict=True))
    seconds = time.perf_counter() - start
    return Plan(offsets, peak, trace.lower_bound, seconds, "phases")


def phase_order(records: Sequence[Lifetime]) -> list[Lifetime]:
    """What lives throughout, then across phases (last death first), then within one by size."""

    def key(record: Lifetime) -> tuple[int, int, int]:
        born, _, died = record.phase.partition(" -> ")
        if not record.phase:
            return 0, -record.size, record.birth
        return (1, -record.death, -record.size) if born != died else (2, -record.size, record.birth)

    return sorted(records, key=key)


def first_fit(records: Sequence[Lifetime], sizes: Sequence[int]) -> list[int]:
    """The lowest offset of each that is free through its life, one after the other."""
    births = np.array([record.birth for record in records])
    deaths = np.array([record.death for record in records])
    low, high = np.zeros(len(records), np.int64), np.zeros(len(records), np.int64)
    for at, size in enumerate(sizes):
        meets = np.flatnonzero((births[:at] < deaths[at]) & (deaths[:at] > births[at]))
        order = meets[np.argsort(low[meets])]
        # The level below which all is taken, before each obstacle and behind the last.
        level = np.concatenate(([0], np.maximum.accumulate(high[order])))
        room = np.flatnonzero(low[order] - level[:-1] >= size)
        low[at] = level[room[0]] if len(room) else level[-1]
        high[at] = low[at] + size
    return low.tolist()
