"""Plans buffers of known sizes, with room for those whose sizes change. Imports no JAX.

What is not planned shares what the plan leaves free, and what goes beyond comes on top, where it is
shared by all. Too little room wastes what then stands empty below the top, too much is wasted
itself. So several shares of the mean sizes are planned as if they were buffers, and the profiled
iterations, replayed, show which plan needs least.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from loomax.memory.allocator.planned_native import make_planned, run
from loomax.memory.allocator.predict import Learned
from loomax.memory.allocator.replay import events
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import DEFAULT, pack
from loomax.memory.planner.plan import Plan

SHARES = (0.0, 0.5, 0.7, 0.85, 1.0)


def is_dynamic(record: Lifetime) -> bool:
    """Whether a buffer's size differs between iterations."""
    return record.kind == "dynamic"


def static_part(trace: Trace) -> Trace:
    """The buffers whose sizes do not change."""
    return Trace(tuple(r for r in trace.records if not is_dynamic(r)), trace.source)


def plan_with_room(
    profiled: Sequence[Trace],
    config: PackConfig = DEFAULT,
    site: Callable[[str], str] = str,
    shares: Sequence[float] = SHARES,
) -> tuple[Plan, Learned]:
    """A plan of the static part, and the longest lives of all others in the profile.

    Args:
        profiled: iterations that are over, of the same buffers; only sizes of those of kind
            "dynamic" differ. The plan is made of the first.
        config: of `pack`, for each of the shares.
        site: of a dynamic buffer's name: those of one site are expected to have the same size.
        shares: of the mean sizes, for which room is tried; of equal plans the first is taken.

    Raises:
        ValueError: nothing is profiled, or as `pack`.
    """
    if not profiled or not shares:
        raise ValueError(f"{len(profiled)} iterations, {len(shares)} shares: give at least one")
    fixed, sizes = static_part(profiled[0]), mean_sizes(profiled, site)
    steps = [events(trace) for trace in profiled]
    best: tuple[int, Plan, Learned] | None = None
    for share in shares:
        plan = pack(_with_room(profiled[0], sizes, share, site), config)
        offsets = {record.id: plan.offsets[record.id] for record in fixed.records}
        ends = (offsets[record.id] + record.padded for record in fixed.records)
        plan = replace(plan, offsets=offsets, peak=max(ends, default=0))
        needed, learned = _needed(steps, fixed, plan)
        if best is None or needed < best[0]:
            best = needed, plan, learned
    assert best is not None
    return best[1], best[2]


def mean_sizes(profiled: Sequence[Trace], site: Callable[[str], str]) -> dict[str, float]:
    """Mean bytes of the dynamic buffers, by site."""
    found: dict[str, list[int]] = defaultdict(list)
    for trace in profiled:
        for record in filter(is_dynamic, trace.records):
            found[site(record.id)].append(record.size)
    return {name: fmean(sizes) for name, sizes in found.items()}


def _with_room(
    trace: Trace, sizes: dict[str, float], share: float, site: Callable[[str], str]
) -> Trace:
    records = []
    for record in trace.records:
        if is_dynamic(record):
            record = replace(record, size=round(share * sizes[site(record.id)]))
        if record.size or not is_dynamic(record):
            records.append(record)
    return Trace(tuple(records), trace.source)


def _needed(
    profiled: Sequence[Sequence[tuple[bool, Lifetime]]], fixed: Trace, plan: Plan
) -> tuple[int, Learned]:
    """Most bytes reserved for any profiled iteration, once lives are learned; and these."""
    learned, most = Learned(), 0
    for iteration in profiled:
        allocator = make_planned(fixed, plan.offsets, learned)
        run(allocator, iteration)
        learned = allocator.learned()
    for iteration in profiled:
        allocator = make_planned(fixed, plan.offsets, learned)
        run(allocator, iteration)
        most = max(most, allocator.reserved)
    return most, learned
