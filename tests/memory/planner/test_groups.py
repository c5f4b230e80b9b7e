"""Blocks of a phase: valid plans, and the cases that the heuristics are made for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.groups import Block, by_phase, dissolve, fuse
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import check_plan

GROUPS = PackConfig(strategy="groups", rounds=2, seconds=600.0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.integers(1, 6), st.integers(0, 9), st.sampled_from("  abc")
        ),
        max_size=14,
    )
)
def test_plans_by_groups_are_valid(spans):
    records = tuple(
        Lifetime(str(i), s, b, b + n, phase=p.strip()) for i, (b, n, s, p) in enumerate(spans)
    )
    plan = pack(Trace(records), GROUPS)
    check_plan(Trace(records), plan.offsets, plan.peak)


def test_phases_of_a_pipeline_stack_without_waste():
    """Forward k -> backward k, nested: each phase is one full block, and they nest."""
    records = tuple(
        Lifetime(f"{k}.{i}", 2 + i, k, 20 - k, phase=f"f{k} -> b{k}")
        for k in range(5)
        for i in range(5)
    )
    plan = pack(Trace(records), GROUPS)
    assert plan.method == "groups" and plan.peak == plan.lower_bound == 5 * (2 + 3 + 4 + 5 + 6)


def test_groups_follow_phases():
    records = [Lifetime(str(i), 1, 0, 1, phase=p) for i, p in enumerate(["a", "", "b", "a"])]
    assert by_phase(records) == [[0, 3], [2]]


def block(members, birth, death, size=10, fill=1.0):
    return Block(tuple(members), (0,) * len(members), size, birth, death, fill)


def test_small_and_badly_filled_blocks_dissolve():
    large, hollow = block(range(6), 0, 9, size=100), block(range(6, 12), 0, 9, fill=0.69)
    few, many = block(range(12, 16), 0, 9, size=9), block(range(16, 21), 0, 9, size=9)
    assert dissolve([large, hollow, few, many]) == [large, many]


def test_a_staircase_is_fused_when_it_fills_better():
    first, second = block([0], 0, 4, fill=0.8), block([1], 3, 8, fill=0.8)
    inside = block([2], 5, 6)
    assert fuse([second, inside, first], lambda _: staircase(0.81)) == [staircase(0.81), inside]
    assert fuse([second, inside, first], lambda _: staircase(0.79)) == [first, second, inside]


def staircase(fill):
    return block([0, 1], 0, 8, fill=fill)
