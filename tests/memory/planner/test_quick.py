"""Rules for many buffers: golden places, valid plans, and work that grows like the buffers."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.jaxlib_ext import planner as native
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.plan import check_plan
from loomax.memory.planner.twin import quick
from loomax.memory.planner.twin.greedy import sorted_by
from loomax.memory.planner.twin.problem import make_problem
from loomax.memory.planner.twin.quick import Gaps, Skyline, quick_portfolio, stack_up, sweep
from loomax.memory.planner.twin.rounds import Options, make_plan

needs_native = pytest.mark.skipif(not native.available(), reason="no compiled planner")
FOREVER = float("inf")
GREEDY = dict(capacity=-1, seed=0, moves=0, rounds=0, seconds=600.0, gap=0.0)


def problem(*spans):
    return make_problem(*zip(*spans, strict=True))


def test_gaps_are_taken_smallest_first_and_join():
    gaps = Gaps()
    assert [gaps.take(size) for size in (4, 2, 8, 1, 2, 1)] == [0, 4, 6, 14, 15, 17]
    gaps.give(0, 4)
    gaps.give(6, 8)
    gaps.give(15, 2)
    # Gaps of 4, 8 and 2: the smallest that is large enough, and of its rest the same again.
    assert gaps.take(3) == 0 and gaps.take(1) == 3
    assert gaps.take(5) == 6 and gaps.take(3) == 11 and gaps.take(2) == 15
    assert gaps.take(1) == 18 and gaps.top == 19
    for at, size in ((3, 1), (6, 5), (4, 2), (11, 3)):
        gaps.give(at, size)
    # One gap of 3 to 14 now.
    assert gaps.take(11) == 3
    gaps.give(15, 2)
    gaps.give(17, 1)
    gaps.give(18, 1)
    assert gaps.top == 15


def test_of_equal_gaps_the_lowest_is_taken():
    gaps = Gaps()
    for at in range(6):
        assert gaps.take(1) == at
    for at in (4, 0, 2):
        gaps.give(at, 1)
    assert [gaps.take(1) for _ in range(4)] == [0, 2, 4, 6]


def test_the_sweep_places_as_an_allocator_would():
    # Born together the larger comes first; what dies at 2 is free for what is born at 2.
    spans = [(0, 2, 3), (0, 4, 5), (2, 4, 2), (2, 3, 1), (3, 4, 1)]
    assert sweep(problem(*spans)) == (5, 0, 5, 7, 7)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.integers(0, 9)), max_size=30),
)
def test_the_skyline_is_a_list_of_heights(sections, steps):
    skyline, heights = Skyline(sections), [0] * sections
    for a, b, height in steps:
        first, last = min(a, b) % sections, min(max(a, b) + 1, sections)
        if first >= last:
            continue
        assert skyline.most(first, last) == max(heights[first:last])
        skyline.rise(first, last, height)
        heights[first:last] = [height] * (last - first)
    assert [skyline.most(s, s + 1) for s in range(sections)] == heights


spans = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=25
)


@settings(max_examples=80, deadline=None)
@given(spans)
def test_plans_are_valid_and_what_is_stacked_lies_on_something(drawn):
    records = tuple(Lifetime(str(i), s, b, b + n) for i, (b, n, s) in enumerate(drawn))
    made = problem(*[(r.birth, r.death, r.size) for r in records])
    stacked = stack_up(made, sorted_by(made, "stack", 16), FOREVER)
    best = quick_portfolio(made, 0, FOREVER)
    for offsets in (sweep(made), stacked, best.offsets):
        named = {r.id: offset for r, offset in zip(records, offsets, strict=True)}
        check_plan(Trace(records), named, made.peak(offsets))
    assert best.peak == made.peak(best.offsets) <= min(made.peak(sweep(made)), made.peak(stacked))
    ends = {0} | {offset + size for offset, size in zip(stacked, made.size, strict=True)}
    assert set(stacked) <= ends


def test_nested_lives_are_a_stack_without_waste():
    made = problem(*[(i, 60 - i, 1 + i % 7) for i in range(30)])
    assert quick_portfolio(made, made.bound, FOREVER).peak == made.bound


def test_the_clock_stops_what_is_not_needed(monkeypatch):
    monkeypatch.setattr(quick, "CLOCK_EVERY", 1)
    # The sweep leaves a hole here, so that the stack orders are asked for.
    made = problem((0, 2, 1), (0, 4, 5), (1, 5, 3), (2, 5, 2), (4, 6, 6), (3, 6, 1))
    assert stack_up(made, range(made.count), -1.0) == ()
    late = quick_portfolio(made, 0, -1.0)
    assert late.offsets == sweep(made)


@needs_native
def test_the_twin_makes_the_same_plan_of_many_buffers():
    draw = random.Random(3)
    births = [draw.randrange(9_000) for _ in range(quick.QUICK_FROM)]
    rows = [(b, b + 1 + draw.randrange(40), draw.randint(1, 9)) for b in births]
    columns = [list(column) for column in zip(*rows, strict=True)]
    # Any plan is low enough: the first is taken.
    options = GREEDY | {"capacity": 2**40}
    theirs, ours = (
        native.pack(*columns, threads=1, **options),
        make_plan(*columns, Options(**options)),
    )
    assert theirs.work == 2 * len(rows) and list(theirs.offsets) == list(ours.offsets)
    assert (theirs.peak, theirs.lower_bound) == (ours.peak, ours.lower_bound)
    few = [column[:-1] for column in columns]
    assert native.pack(*few, threads=1, **options).work == 0


def training(count):
    """Steps of 64 layers: each keeps buffers for the way back, and has others."""
    rows, time = [], 0
    while len(rows) < count:
        kept = []
        for layer in range(64):
            kept.append((time, 1 + layer * 13 % 97))
            rows.append((time, time + 2, 1 + layer * 5 % 31))
            time += 1
        for birth, size in reversed(kept):
            rows.append((birth, time + 1, size))
            time += 1
    return rows[:count]


def mixed(count):
    draw = random.Random(0)
    births = [draw.randrange(count) for _ in range(count)]
    return [(b, b + 1 + draw.randrange(500), draw.randint(1, 999)) for b in births]


@needs_native
@pytest.mark.parametrize("rows", [training, mixed])
def test_one_plan_is_made_in_linear_steps_when_the_time_is_over(rows):
    for count in (40_000, 80_000):
        columns = [list(column) for column in zip(*rows(count), strict=True)]
        made = native.pack(*columns, threads=1, **(GREEDY | {"seconds": 1e-9}))
        assert made.peak >= made.lower_bound and made.work == 2 * count


@pytest.mark.parametrize("rows", [training, mixed])
def test_stacking_takes_about_linear_steps(rows, monkeypatch):
    """Nodes of the skyline that are visited; looking at every pair would be 16 times as many.

    Both numbers of buffers are large beside the lifetimes of `mixed`, so that as many live at once.
    """
    steps = []
    for name in ("_ask", "_set"):
        plain = getattr(Skyline, name)
        counted = lambda *args, plain=plain: steps.append(1) or plain(*args)  # noqa: E731
        monkeypatch.setattr(Skyline, name, counted)
    found = []
    for count in (1_000, 4_000):
        steps.clear()
        made = problem(*rows(count))
        stack_up(made, sorted_by(made, "stack", 16), FOREVER)
        found.append(len(steps))
    assert 3 * found[0] < found[1] < 6 * found[0]
