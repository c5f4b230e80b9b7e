"""Packing: against brute force, with alignment, aliases and phases, within capacities."""

import functools
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.jaxlib_ext import planner as native
from loomax.memory.lifetimes.pipeline_schedule import interleaved
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import check_plan
from loomax.memory.planner.twin import rounds

# Ends by itself, so that results do not depend on the machine.
QUICK = PackConfig(seconds=600.0, rounds=3, moves=20)


@pytest.fixture(params=["native", "twin"])
def engine(request, monkeypatch):
    """The compiled planner, if it was built, and its twin."""
    if request.param == "twin":
        monkeypatch.setattr(native, "available", lambda: False)
    elif not native.available():
        pytest.skip("no compiled planner")
    return request.param


def fits(records, capacity: int) -> bool:
    """By trying all orders: a plan stacks up, in the order of its offsets, without gaps below."""
    meets = [[a.meets(b) for b in records] for a in records]

    @functools.cache
    def finish(levels: tuple[int, ...]) -> bool:
        # levels[i]: end of a placed buffer; -1: it waits.
        for i, level in enumerate(levels):
            if level < 0:
                below = [level for j, level in enumerate(levels) if meets[i][j]]
                end = max([0, *below]) + records[i].size
                if end <= capacity and finish(levels[:i] + (end,) + levels[i + 1 :]):
                    return True
        return min(levels) >= 0

    return finish((-1,) * len(records))


def least_peak(records) -> int:
    return next(capacity for capacity in itertools.count() if fits(records, capacity))


@st.composite
def small(draw):
    spans = draw(
        st.lists(
            st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 9)),
            min_size=1,
            max_size=6,
        )
    )
    return tuple(Lifetime(str(i), s, b, b + n) for i, (b, n, s) in enumerate(spans))


@settings(max_examples=60, deadline=None)
@given(small())
def test_plans_are_as_low_as_brute_force_finds(records):
    plan = pack(Trace(records), QUICK)
    check_plan(Trace(records), plan.offsets, plan.peak)
    assert plan.peak == least_peak(records)
    assert plan.lower_bound <= plan.peak
    assert not plan.optimal or plan.gap == 0


def gap_instance() -> tuple[Lifetime, ...]:
    """Seven bytes are live at every time, and no plan fits into seven."""
    spans = [(0, 1, 3), (0, 1, 1), (0, 2, 3), (1, 3, 2), (2, 4, 1), (3, 4, 1), (1, 5, 2)]
    spans += [(2, 5, 2), (4, 5, 2), (3, 6, 1), (5, 6, 6)]
    return tuple(Lifetime(str(i), s, a, b) for i, (a, b, s) in enumerate(spans))


def test_a_bound_above_most_live_is_proved(engine):
    records = gap_instance()
    trace = Trace(records)
    assert trace.lower_bound == 7 and not fits(records, 7) and fits(records, 8)
    plan = pack(trace, QUICK)
    assert (plan.peak, plan.lower_bound, plan.optimal) == (8, 8, True)
    within = pack(trace, PackConfig(capacity=7, seconds=600.0))
    assert (within.peak, within.lower_bound) == (8, 8)


def pipeline_steps() -> tuple[Lifetime, ...]:
    """One device under 1F1B: each layer keeps buffers for its backward pass, and has others."""
    sizes = {layer: random.Random(layer).sample(range(1, 99), 4) for layer in range(4)}
    records, born, time = [], {}, 0
    for work in interleaved(4, 1, 8, 0):
        layers = range(4) if work.forward else reversed(range(4))
        for layer in layers:
            for at, size in enumerate(sizes[layer]):
                name = f"{work.microbatch}.{layer}.{at}"
                if at % 2:
                    records.append(Lifetime(f"{work.name}.{layer}.{at}", size, time, time + 2))
                elif work.forward:
                    born[name] = time
                else:
                    records.append(Lifetime(name, size, born[name], time + 1))
                time += 1
    return tuple(records)


def test_stacks_of_a_pipeline_are_seen_without_phases():
    """Orders that look at sizes first leave several percent here."""
    trace = Trace(pipeline_steps())
    plan = pack(trace, PackConfig(seconds=600.0, rounds=0, moves=0))
    check_plan(trace, plan.offsets, plan.peak)
    assert plan.optimal


def test_what_is_too_large_for_exact_search_ends_by_itself():
    if not native.available():
        pytest.skip("no compiled planner")
    draw = random.Random(0)
    births = [draw.randrange(3000) for _ in range(2500)]
    records = [Lifetime(f"{i}", draw.randint(1, 999), b, b + 900) for i, b in enumerate(births)]
    plan = pack(Trace(tuple(records)), PackConfig(seconds=600.0, moves=3))
    assert plan.nodes == 0 and plan.peak >= plan.lower_bound


def test_a_search_that_finds_nothing_ends_by_itself(monkeypatch):
    monkeypatch.setattr(native, "available", lambda: False)
    # Rounds of a few nodes find nothing.
    for name, value in (("LEAST_NODES", 1), ("NODES_PER_BUFFER", 0), ("PATIENCE", 5)):
        monkeypatch.setattr(rounds, name, value)
    plan = pack(Trace(gap_instance()), PackConfig(seconds=600.0, moves=0))
    assert plan.nodes > 0 and plan.gap > 0


def test_the_example_of_the_public_format(engine):
    # From the README of github.com/google/minimalloc: fits into 12.
    spans = [(0, 3, 4), (3, 9, 4), (0, 9, 4), (9, 21, 4), (0, 21, 4)]
    trace = Trace(tuple(Lifetime(f"b{i}", s, a, b) for i, (a, b, s) in enumerate(spans, 1)))
    plan = pack(trace, PackConfig(capacity=12))
    assert plan.peak == 12 and plan.optimal and plan.native == (engine == "native")


def test_offsets_are_aligned_and_buffers_without_bytes_are_at_zero(engine):
    records = (
        Lifetime("a", 5, 0, 4, 4),
        Lifetime("b", 0, 0, 9, 16),
        Lifetime("c", 17, 1, 3, 16),
        Lifetime("d", 1, 2, 5),
    )
    plan = pack(Trace(records), QUICK)
    check_plan(Trace(records), plan.offsets, plan.peak)
    assert plan.offsets["b"] == 0 and plan.peak % 16 == 0 and plan.lower_bound <= plan.peak


def test_alignments_must_divide_each_other():
    records = (Lifetime("a", 5, 0, 4, 4), Lifetime("b", 5, 0, 4, 6))
    with pytest.raises(ValueError, match="'a': alignment 4 does not divide 6"):
        pack(Trace(records))


def test_aliases_share_an_offset(engine):
    records = (
        Lifetime("a", 4, 0, 2, alias="x"),
        Lifetime("b", 6, 2, 4, alias="x"),
        Lifetime("c", 5, 0, 4),
    )
    plan = pack(Trace(records), QUICK)
    check_plan(Trace(records), plan.offsets, plan.peak)
    assert plan.offsets["a"] == plan.offsets["b"] and plan.peak == 11


def test_a_capacity_below_what_is_live_is_refused():
    with pytest.raises(ValueError, match="capacity is 3: 4 bytes are live at once in trace"):
        pack(Trace((Lifetime("a", 4, 0, 1),)), PackConfig(capacity=3))


def test_nothing_needs_nothing(engine):
    plan = pack(Trace(()))
    assert (plan.offsets, plan.peak, plan.lower_bound, plan.gap) == ({}, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": -1}, "capacity is -1"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"gap": -0.1}, "gap is -0.1"),
        ({"threads": -2}, "threads is -2"),
        ({"strategy": "group"}, "unknown strategy 'group': did you mean groups"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PackConfig(**change)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ({"a": 0}, "'b' has no offset"),
        ({"a": 0, "b": 3}, "'b' at 3: not a multiple of 2"),
        ({"a": 0, "b": 8}, r"'b' at \[8, 12\): not within \[0, 10\)"),
        ({"a": 0, "b": 2}, r"'b' at \[2, 6\) and 'a' at \[0, 4\) live at once"),
    ],
)
def test_wrong_plans_are_found(offsets, message):
    trace = Trace((Lifetime("a", 4, 0, 2), Lifetime("b", 4, 1, 3, 2)))
    with pytest.raises(ValueError, match=message):
        check_plan(trace, offsets, 10)
