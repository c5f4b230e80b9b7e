"""The replay: against the closed form, against a longest path, and for overlaps."""

import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.plan.tree import Chunks, Run, Shared, Space, cost
from loomax.agents.workflow.simulate import simulate, slack
from loomax.agents.workflow.tasks import placements, rounds

times = st.integers(0, 9)
# What plans are made from: the types of a plan are checked as it is made, outside of strategies.
shapes = st.recursive(
    st.tuples(st.just("run"), st.integers(1, 3), st.integers(1, 9), st.integers(0, 3)),
    lambda inner: st.one_of(
        st.tuples(st.just("shared"), inner, inner, st.booleans(), times),
        st.tuples(st.just("space"), inner, inner, times),
        st.tuples(st.just("parallel"), inner, inner),
        st.tuples(st.just("chunks"), inner, st.integers(2, 3)),
    ),
    max_leaves=5,
)


def planned(shape):
    kind, *rest = shape
    if kind == "run":
        devices, seconds, resident = rest
        return run("abc"[devices - 1], seconds, devices, resident)
    if kind == "chunks":
        return Chunks(planned(rest[0]), rest[1])
    first, second = planned(rest[0]), planned(rest[1])
    if kind == "parallel":
        return Space(first, second, 0, True)
    if kind == "space":
        return Space(first, second, rest[2], False)
    moved = cost(first).resident_bytes + cost(second).resident_bytes
    return Shared(first, second, rest[2], rest[3], 2 * moved if rest[2] else 0)


def run(name, seconds, devices=1, resident=0) -> Run:
    return Run((name,), devices, 1, seconds, resident, 0)


@settings(max_examples=150, deadline=None)
@given(shapes, st.integers(1, 3))
def test_replay_and_closed_form(shape, passes):
    plan = planned(shape)
    timeline, closed = simulate(plan, passes), cost(plan).seconds(passes)
    assert closed - slack(plan, passes) <= timeline.seconds <= closed
    if not any(isinstance(node, Space) and node.parallel for node in every(plan)):
        assert timeline.seconds == closed


@settings(max_examples=100, deadline=None)
@given(shapes, st.integers(1, 2))
def test_one_link_for_all_is_at_most_all_transfers_later(shape, passes):
    plan = planned(shape)
    alone, together = simulate(plan, passes), simulate(plan, passes, one_link=True)
    moved = sum(e.task.seconds for e in alone.events if e.task.kind == "transfer")
    assert alone.seconds <= together.seconds <= alone.seconds + moved
    spans = [(e.start_s, e.end_s) for e in together.events if e.task.kind == "transfer"]
    for (_, end), (start, _) in itertools.pairwise(sorted(spans)):
        assert end <= start


@settings(max_examples=100, deadline=None)
@given(shapes, st.integers(1, 2))
def test_a_device_does_one_thing_at_a_time(shape, passes):
    plan = planned(shape)
    busy: dict[int, list] = {}
    for event in simulate(plan, passes).events:
        for device in range(event.task.first, event.task.first + event.task.devices):
            busy.setdefault(device, []).append((event.start_s, event.end_s))
    for spans in busy.values():
        for (_, end), (start, _) in itertools.pairwise(sorted(spans)):
            assert end <= start
    assert max(busy) < cost(plan).devices


def every(plan):
    yield plan
    for name in ("child", "first", "second"):
        if hasattr(plan, name):
            yield from every(getattr(plan, name))


def test_a_pipeline_by_hand():
    # Three stations of 1, 3 and 2 s, 0.5 s to move: 1 + 0.5 + 3 + 2, then 3 for each more.
    chain = Space(Space(run("a", 1.0), run("b", 3.0), 0.5, False), run("c", 2.0), 0.0, False)
    assert cost(chain).latency_s == 6.5
    assert cost(chain).period_s == 3.0 and cost(chain).devices == 3
    timeline = simulate(Chunks(chain, 4))
    assert timeline.seconds == 6.5 + 3 * 3.0
    starts = [e.start_s for e in timeline.events if e.task.name == "b"]
    assert starts == [1.5, 4.5, 7.5, 10.5]
    assert timeline.busy == pytest.approx(4 * 6.0 / (3 * 15.5))


def test_a_slow_link_is_the_bottleneck():
    plan = Space(run("a", 1.0), run("b", 1.0), 4.0, False)
    assert cost(Chunks(plan, 3)).latency_s == simulate(Chunks(plan, 3)).seconds == 6.0 + 2 * 4.0


def test_swaps_by_hand():
    # Each side goes in and out once: 4 bytes and 2 at 1 byte a second.
    plan = Shared(run("a", 1.0, 2, 4), run("b", 1.0, 1, 2), True, 0.25, 12.0)
    spans = [(e.task.kind, e.end_s - e.start_s) for e in simulate(plan).events]
    assert spans == [
        ("swap", 4.0),
        ("run", 1.0),
        ("swap", 6.0),
        ("exchange", 0.25),
        ("run", 1.0),
        ("swap", 2.0),
    ]
    assert cost(plan).resident_bytes == 4 and cost(plan).latency_s == 14.25


def test_parallel_sides_that_trade_places():
    # d batches after the first: the left ends at 3 + d, the right at 2 + 2 d.
    left = Space(Space(run("a", 1.0), run("b", 1.0), 0.0, False), run("c", 1.0), 0.0, False)
    plan = Space(left, run("d", 2.0), 0.0, True)
    assert cost(plan).seconds(4) == 3 + 3 * 2
    assert simulate(plan, 4).seconds == max(3 + 3 * 1, 2 + 3 * 2)
    assert slack(plan, 4) == 1.0


def longest_path(ring: Ring) -> float:
    """Each station serves the parts in turn, each part visits the stations in turn."""
    steps = [x for s in ring.stations for x in (s.seconds, s.transfer_s)]

    @functools.cache
    def end(round_: int, turn: int, step: int) -> float:
        if round_ < 0:
            return 0.0
        before = end(round_, turn, step - 1) if step else end(round_ - 1, turn, len(steps) - 1)
        ahead = end(round_, turn - 1, step) if turn else end(round_ - 1, ring.turns - 1, step)
        return max(before, ahead) + steps[step]

    return end(ring.rounds - 1, ring.turns - 1, len(steps) - 1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), times, times), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 2),
)
def test_a_ring_takes_its_longest_path(stations, turns, count, passes):
    ring = Ring(tuple(Station("abc"[i], *s) for i, s in enumerate(stations)), turns, count)
    assert ring.seconds == longest_path(ring)
    plan = Run(("a+b",), ring.devices, 1, ring.seconds + 1, 0, 0, ring)
    assert simulate(plan, passes).seconds == cost(plan).seconds(passes)


def test_placements_and_measured_times():
    plan = Shared(
        Space(run("a", 1.0, 3), run("b", 1.0, 2), 0.0, False), run("c", 1.0, 4), False, 0.0, 0.0
    )
    where = {found.units[0]: devices for found, devices in placements(plan)}
    assert where == {"a": range(0, 3), "b": range(3, 5), "c": range(0, 4)}
    slow = simulate(plan, seconds=lambda task: task.seconds * (2 if task.name == "b" else 1))
    assert slow.seconds == 4.0


def test_a_cycle_unrolls_into_its_calls():
    parts = {"a+s": (("a", 0.25, 2), ("s", 0.75, 2))}
    timeline = simulate(run("a+s", 8.0), parts=parts)
    assert [(e.task.name, e.end_s) for e in timeline.events] == [
        ("a", 1.0),
        ("s", 4.0),
        ("a", 5.0),
        ("s", 8.0),
    ]
    # Called six times in two rounds: one longer piece a round.
    assert rounds((("a", 0.5, 2), ("s", 0.5, 6)), 4.0) == [("a", 1.0), ("s", 1.0)] * 2
