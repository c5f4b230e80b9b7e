"""Plans with room for what is not planned: by hand, and on a small mixture of experts."""

import random
from dataclasses import replace

import pytest

from loomax.memory.allocator.planned_native import make_planned, run
from loomax.memory.allocator.replay import events
from loomax.memory.allocator.room import mean_sizes, plan_with_room, static_part
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.plan import check_plan

QUICK = PackConfig(seconds=600.0, rounds=0, moves=0)
# "x" lives with all of "early" and with the end of "late", which needs more than x leaves.
TRACE = Trace(
    (
        Lifetime("early", 300, 0, 4, 100),
        Lifetime("x", 100, 1, 6, 100, kind="dynamic"),
        Lifetime("late", 400, 5, 9, 100),
    )
)


def grown(size):
    return Trace(tuple(replace(r, size=size) if r.id == "x" else r for r in TRACE.records))


def test_means_are_by_site():
    sizes = mean_sizes([TRACE, grown(200)], lambda name: name.upper())
    assert sizes == {"X": 150.0}
    assert [record.id for record in static_part(TRACE).records] == ["early", "late"]


def test_room_is_left_below_what_comes_later():
    plan, learned = plan_with_room([TRACE, TRACE], QUICK)
    assert set(plan.offsets) == {"early", "late"}
    allocator = make_planned(static_part(TRACE), plan.offsets, learned, alignment=100)
    run(allocator, events(TRACE))
    assert allocator.reserved == TRACE.lower_bound == 500


def layers(seed):
    """Forward and backward of eight layers: each keeps a known and a changing buffer."""
    draw, records = random.Random(seed), []
    for at in range(8):
        records.append(Lifetime(f"kept{at}", 700, 4 * at, 64 - 4 * at, 100))
        size = draw.randrange(200, 500)
        birth, death = 4 * at + 1, 64 - 4 * at - 1
        records.append(Lifetime(f"rows{at}", size, birth, death, 100, kind="dynamic"))
        for start in (4 * at + 2, 64 - 4 * at - 2):
            records.append(Lifetime(f"scratch{start}", 900, start, start + 1, 100))
    return Trace(tuple(records))


def test_the_plan_that_the_profile_needs_least_for_is_taken():
    profiled = [layers(turn) for turn in range(3)]
    fixed, steps = static_part(profiled[0]), [events(trace) for trace in profiled]

    def needed(shares):
        plan, learned = plan_with_room(profiled, QUICK, shares=shares)
        check_plan(fixed, plan.offsets, plan.peak)
        most = 0
        for iteration in steps:
            allocator = make_planned(fixed, plan.offsets, learned)
            run(allocator, iteration)
            most = max(most, allocator.reserved)
        return most

    each = [needed((share,)) for share in (0.0, 0.5, 1.0)]
    assert needed((0.0, 0.5, 1.0)) == min(each) < max(each)


@pytest.mark.parametrize(("profiled", "shares"), [([], (1.0,)), ([TRACE], ())])
def test_nothing_to_choose_from_is_refused(profiled, shares):
    with pytest.raises(ValueError, match="iterations, . shares: give at least one"):
        plan_with_room(profiled, QUICK, shares=shares)
