"""Gaps: others use a buffer's bytes while it holds nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner import gaps
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.gaps import meet
from loomax.memory.planner.pack import pack
from loomax.memory.planner.periodic import pack_periodic
from loomax.memory.planner.plan import check_plan

QUICK = PackConfig(seconds=600.0, rounds=1, moves=5)
PAIR = (Lifetime("a", 4, 0, 9, gaps=((2, 6),)), Lifetime("b", 4, 2, 6))


def test_a_gap_is_used_by_another():
    trace = Trace(PAIR)
    plan = pack(trace, QUICK)
    assert (plan.peak, plan.lower_bound, plan.optimal, plan.method) == (4, 4, True, "gaps")
    assert plan.offsets == {"a": 0, "b": 0}
    check_plan(trace, plan.offsets, 4)
    assert pack(trace, PackConfig(capacity=4, seconds=600.0)).peak == 4
    with pytest.raises(ValueError, match="capacity is 3: 4 bytes are live at once"):
        pack(trace, PackConfig(capacity=3))


def test_times_beside_a_gap_are_held():
    for birth, death in ((1, 6), (2, 7)):
        other = Lifetime("b", 4, birth, death)
        assert pack(Trace((PAIR[0], other)), QUICK).peak == 8
        with pytest.raises(ValueError, match="live at once"):
            check_plan(Trace((PAIR[0], other)), {"a": 0, "b": 3}, 9)


def test_too_many_to_compare_are_planned_for_their_whole_life(monkeypatch):
    monkeypatch.setattr(gaps, "MOST_BUFFERS", 1)
    plan = pack(Trace(PAIR), QUICK)
    assert plan.peak == 8 and plan.lower_bound == 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(3, 8), st.integers(1, 9), st.integers(0, 2)),
        min_size=1,
        max_size=8,
    )
)
def test_plans_with_gaps_are_valid_and_never_worse(drawn):
    def holes(birth, length, count):
        return tuple((birth + 1 + 3 * i, birth + 2 + 3 * i) for i in range(min(count, length // 3)))

    records = tuple(
        Lifetime(str(i), s, b, b + n, gaps=holes(b, n, k)) for i, (b, n, s, k) in enumerate(drawn)
    )
    plan = pack(Trace(records), QUICK)
    live = [{r.id for r in records if any(a <= time < b for a, b in r.spans)} for time in range(16)]
    sizes = {r.id: r.size for r in records}
    assert plan.lower_bound == max(sum(sizes[name] for name in names) for names in live)
    assert plan.lower_bound <= plan.peak
    for names in live:
        taken = [byte for n in names for byte in range(plan.offsets[n], plan.offsets[n] + sizes[n])]
        assert len(taken) == len(set(taken)) and max(taken, default=0) < plan.peak
    whole = pack(Trace(tuple(Lifetime(r.id, r.size, r.birth, r.death) for r in records)), QUICK)
    assert plan.peak <= whole.peak
    for one in records:
        for other in records:
            both = any({one.id, other.id} <= names for names in live)
            assert meet(one, other) == both


def test_loops_have_no_gaps():
    with pytest.raises(ValueError, match="'a' has gaps, which are not planned in loops"):
        pack_periodic(Trace(PAIR), 9)
