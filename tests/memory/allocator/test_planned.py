"""The plan at run time: places, gaps over a predicted life, growth, and never an overlap."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.memory.allocator.planned import Counts, Planned
from loomax.memory.allocator.predict import Known, Learned
from loomax.memory.allocator.protocol import Allocator
from loomax.memory.allocator.replay import replay
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack

# Two long buffers, one above the other, and in between [100, 150) is free until 6:
#
#   200 +-----------------+
#       | top             |
#   150 +--------+--------+
#       |        | late   |
#   100 +--------+--------+
#       | bottom          |
#     0 +-----------------+
#       0        6        10
TRACE = Trace(
    (Lifetime("bottom", 100, 0, 10), Lifetime("top", 50, 0, 10), Lifetime("late", 50, 6, 10))
)
OFFSETS = {"bottom": 0, "top": 150, "late": 100}


def planned(deaths=None, **options):
    predictor = Learned() if deaths is None else Known(deaths)
    return Planned(TRACE, OFFSETS, predictor, alignment=1, **options)


def start(allocator):
    allocator.malloc("bottom", 100)
    allocator.malloc("top", 50)
    return allocator


def test_planned_buffers_get_their_places():
    allocator = planned()
    assert isinstance(allocator, Allocator)
    assert replay(TRACE, allocator).fragmentation == 0.0
    assert allocator.counts == Counts(hits=3)


def test_a_short_life_fits_into_a_gap_that_the_plan_needs_later():
    allocator = start(planned({"x": 6}))
    assert allocator.malloc("x", 30) == 100
    allocator.free("x")
    assert allocator.malloc("late", 50) == 100
    assert allocator.counts == Counts(hits=3, gaps=1)


@pytest.mark.parametrize("deaths", [{"x": 7}, {}])
def test_a_long_or_unknown_life_goes_above_the_plan(deaths):
    allocator = start(planned(deaths))
    assert allocator.malloc("x", 30) == 200
    assert allocator.reserved == 230
    assert allocator.counts == Counts(hits=2, fallback=1, growth=30)


def test_a_wrong_prediction_moves_the_planned_buffer():
    allocator = start(planned({"x": 6}))
    allocator.malloc("x", 30)
    assert allocator.malloc("late", 50) == 200  # x still lies in its place
    assert allocator.counts == Counts(hits=2, gaps=1, fallback=1, missed=1, growth=50)


def test_a_planned_buffer_that_grew_is_placed_like_the_others():
    allocator = start(planned())
    assert allocator.malloc("late", 51) == 200
    assert allocator.counts.missed == 1


def finish(allocator, *names):
    for name in names:
        allocator.free(name)


def test_lives_are_learned_from_the_iteration_before():
    allocator, places = planned(), []
    for turn in range(3):
        start(allocator)
        # New each time, so that what the plan grew by is taken.
        assert turn == 0 or allocator.malloc(f"new {turn}", 30) == 200
        places.append(allocator.malloc("x", 30))
        allocator.free("x")
        allocator.malloc("late", 50)
        finish(allocator, "bottom", "top", "late", *([f"new {turn}"] if turn else []))
    assert places == [200, 100, 100]
    assert allocator.counts == Counts(hits=9, gaps=2, fallback=3, growth=30)


@pytest.mark.parametrize(("freed_after", "place"), [("top", 100), ("late", 230)])
def test_a_life_into_the_next_iteration_keeps_clear_of_its_places(freed_after, place):
    allocator = start(planned())
    allocator.malloc("late", 50)
    assert allocator.malloc("x", 30) == 200
    finish(allocator, "bottom", "top", "late")
    start(allocator)
    if freed_after == "late":
        allocator.malloc("late", 50)
        finish(allocator, "x", "bottom", "top", "late")
    else:
        finish(allocator, "x", "bottom", "top")
    # Learned: from 6 to 0 or 6 of the next iteration; late is born at 6.
    start(allocator)
    allocator.malloc("late", 50)
    allocator.free("late")
    assert allocator.malloc("new", 30) == 200
    assert allocator.malloc("x", 30) == place


def test_the_smallest_gap_is_taken():
    trace = Trace((Lifetime("a", 10, 0, 10), Lifetime("b", 10, 0, 10)))
    allocator = Planned(trace, {"a": 50, "b": 80}, alignment=1)
    assert [allocator.malloc(name, size) for name, size in [("x", 15), ("y", 45), ("z", 6)]] == [
        60,
        0,
        90,
    ]


@pytest.mark.parametrize(("records", "place"), [((), 0), ((Lifetime("p", 10, 0, 10),), 70)])
def test_without_a_plan_the_end_is_taken_last(records, place):
    allocator = Planned(Trace(records), {record.id: 0 for record in records}, alignment=1)
    for name, size in [*((record.id, record.size) for record in records), ("a", 50), ("b", 10)]:
        allocator.malloc(name, size)
    allocator.malloc("c", 20)
    allocator.free("a")
    allocator.free("c")
    # Free: 50 bytes between others, and 20 at the end of what is reserved.
    assert allocator.malloc("d", 20) == place


def test_without_a_plan_the_end_is_taken_where_nothing_else_fits():
    allocator = Planned(Trace(()), {}, alignment=1, capacity=100)
    assert [allocator.malloc(name, size) for name, size in [("a", 30), ("b", 30)]] == [0, 30]
    allocator.free("a")
    assert allocator.malloc("c", 40) == 60
    with pytest.raises(MemoryError, match="'d': 31 bytes do not fit: they would end at 131"):
        allocator.malloc("d", 31)
    assert allocator.malloc("d", 30) == 0


def test_offsets_and_sizes_of_others_are_aligned():
    trace = Trace((Lifetime("a", 10, 0, 10),))
    allocator = Planned(trace, {"a": 0}, alignment=512)
    assert allocator.malloc("x", 1) == 512 and allocator.reserved == 1024


def test_with_little_memory_the_plan_gives_way():
    allocator = start(planned({}, capacity=200))
    assert allocator.malloc("x", 30) == 100
    with pytest.raises(MemoryError, match="'late': 50 bytes do not fit: .* end at 250.* is 200"):
        allocator.malloc("late", 50)
    allocator.free("x")
    assert allocator.malloc("late", 50) == 100


def test_a_refused_buffer_begins_no_iteration():
    learned = Learned()
    allocator = start(Planned(TRACE, OFFSETS, learned, capacity=200, alignment=1))
    allocator.malloc("x", 30)
    allocator.malloc("empty", 0)
    with pytest.raises(MemoryError):
        allocator.malloc("late", 50)
    allocator.free("x")
    allocator.malloc("late", 50)
    allocator.free("empty")
    # From 0 to 6, births at 6 included; through a whole iteration it would be 17.
    assert learned.death("empty", 0) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offsets": {"bottom": 0}}, "buffer 'top' has no offset"),
        ({"offsets": OFFSETS | {"top": -1}}, "buffer 'top' has no offset of 0 or more"),
        ({"capacity": 199}, "capacity is 199: the plan alone needs 200"),
        ({"alignment": 0}, "alignment is 0"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Planned(TRACE, **({"offsets": OFFSETS} | options))


class Soak:
    """A planned allocator under events of any order, beside a map of all units of 64 bytes."""

    def __init__(self, allocator):
        self.allocator = allocator
        self.live: dict[str, slice] = {}
        self.used = np.zeros(10_000, bool)

    def malloc(self, id, size):
        try:
            low = self.allocator.malloc(id, size)
        except MemoryError:
            assert self.allocator.capacity is not None
            return
        place = slice(low // 64, -(-(low + size) // 64))
        assert low % 64 == 0 and low + size <= self.allocator.reserved <= 64 * len(self.used)
        assert not self.used[place].any()
        self.used[place] = True
        self.live[id] = place

    def free(self, id):
        self.allocator.free(id)
        self.used[self.live.pop(id)] = False

    def finish(self):
        for id in list(self.live):
            self.free(id)
        assert self.allocator.allocated == 0
        if self.allocator.capacity is not None:
            assert self.allocator.reserved <= self.allocator.capacity


def random_trace(draw, count):
    births = [draw.randrange(100) for _ in range(count)]
    return Trace(
        tuple(
            Lifetime(f"p{at}", 64 * draw.randint(0, 20), birth, birth + draw.randint(1, 30), 64)
            for at, birth in enumerate(births)
        )
    )


QUICK = PackConfig(seconds=600.0, rounds=1, moves=5)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_events_never_overlap(data):
    trace = random_trace(random.Random(data.draw(st.integers(0, 9))), 12)
    plan = pack(trace, QUICK)
    capacity = data.draw(st.sampled_from([None, plan.peak, plan.peak + 1000]))
    soak = Soak(Planned(trace, plan.offsets, capacity=capacity, alignment=64))
    names = [record.id for record in trace.records] + [f"x{at}" for at in range(6)]
    for name in data.draw(st.lists(st.sampled_from(names), max_size=80)):
        if name in soak.live:
            soak.free(name)
        else:
            soak.malloc(name, data.draw(st.integers(0, 2000)))
    soak.finish()


def test_twenty_thousand_random_events_never_overlap():
    draw = random.Random(1)
    trace = random_trace(draw, 60)
    sizes = {record.id: record.size for record in trace.records}
    soak = Soak(Planned(trace, pack(trace, QUICK).offsets, alignment=64))
    names = list(sizes) + [f"x{at}" for at in range(40)]
    for _ in range(20_000):
        name = draw.choice(names)
        if name in soak.live:
            soak.free(name)
        elif len(soak.live) >= 25:
            soak.free(draw.choice(list(soak.live)))
        # Most planned buffers come as planned.
        else:
            known = name in sizes and draw.random() < 0.9
            soak.malloc(name, sizes[name] if known else draw.randrange(2000))
    counts = soak.allocator.counts
    assert min(counts.hits, counts.gaps, counts.fallback, counts.missed) > 100
    soak.finish()
