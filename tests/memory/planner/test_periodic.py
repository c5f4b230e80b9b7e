"""Plans of loops, checked on unrolled iterations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.periodic import pack_periodic, unrolled
from loomax.memory.planner.plan import check_plan

QUICK = PackConfig(seconds=600.0, rounds=2, moves=10)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 9), st.integers(0, 9)), max_size=9),
)
def test_plans_hold_in_every_iteration(period, spans):
    records = [Lifetime(str(i), s, b, b + min(n, period)) for i, (b, n, s) in enumerate(spans)]
    plan = pack_periodic(Trace(tuple(records)), period, QUICK)
    copies = Trace(tuple(unrolled(records, period, 4)))
    offsets = {copy.id: plan.offsets[copy.id.partition("@")[0]] for copy in copies.records}
    check_plan(copies, offsets, plan.peak)

    def live(time):
        return sum(r.size for r in copies.records if r.birth <= time < r.death)

    assert plan.lower_bound == max(map(live, range(period, 2 * period)))


def test_what_crosses_the_end_of_an_iteration_can_share_with_its_middle():
    """Parameters live on; a batch is loaded late for the next iteration; activations between."""
    records = (
        Lifetime("parameters", 8, 0, 10),
        Lifetime("batch", 4, 9, 12),
        Lifetime("activations", 4, 2, 9),
    )
    plan = pack_periodic(Trace(records), 10)
    assert plan.peak == plan.lower_bound == 12


def test_aliases_keep_one_offset():
    records = (
        Lifetime("a", 4, 0, 2, alias="x"),
        Lifetime("b", 6, 2, 4, alias="x"),
        Lifetime("c", 5, 3, 7),
    )
    plan = pack_periodic(Trace(records), 5)
    assert plan.offsets["a"] == plan.offsets["b"] and plan.peak == 11


@pytest.mark.parametrize(
    ("period", "message"), [(0, "period is 0"), (3, "'a' lives for 4, longer than the period 3")]
)
def test_impossible_loops_are_refused(period, message):
    with pytest.raises(ValueError, match=message):
        pack_periodic(Trace((Lifetime("a", 1, 0, 4),)), period)
