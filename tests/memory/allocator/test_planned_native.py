"""The compiled allocator: its twin's addresses and counts, and never an overlap."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.jaxlib_ext import online
from loomax.memory.allocator.planned import Planned
from loomax.memory.allocator.planned_native import PlannedNative, make_planned, run
from loomax.memory.allocator.predict import Known, Learned
from loomax.memory.allocator.replay import events
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack

pytestmark = pytest.mark.skipif(not online.available(), reason="no compiled allocator")

TRACE = Trace(
    (Lifetime("bottom", 100, 0, 10), Lifetime("top", 50, 0, 10), Lifetime("late", 50, 6, 10))
)
OFFSETS = {"bottom": 0, "top": 150, "late": 100}


def native(**options):
    return PlannedNative(TRACE, OFFSETS, alignment=1, **options)


def random_trace(draw, count, length=100):
    records = []
    for at in range(count):
        birth = draw.randrange(-20, length)
        size = draw.choice([1, 7, 64]) * draw.randint(0, 20)
        death = birth + draw.randint(1, 30)
        records.append(Lifetime(f"p{at}", size, birth, death, draw.choice([1, 4, 64])))
    return Trace(tuple(records))


def random_plan(draw, trace):
    """The planner's offsets, or, now and then, any: planned buffers may then lie in each other."""
    if draw.random() < 0.2:
        return {record.id: draw.randrange(1000) for record in trace.records}
    return pack(trace, PackConfig(seconds=600.0, rounds=0, moves=3)).offsets


def outcome(allocator, id, size):
    try:
        return allocator.malloc(id, size)
    except MemoryError as error:
        return str(error)


def random_names(draw, trace, count):
    """Names to allocate, or free if they live: often as planned, through several iterations."""
    planned = [record.id for record, _ in _ordered(trace)]
    names = [record.id for record in trace.records] + [f"x{at}" for at in range(40)]
    at = 0
    for _ in range(count):
        if planned and draw.random() < 0.6:
            yield planned[at % len(planned)]
            at += 1
        else:
            yield draw.choice(names)


def _ordered(trace):
    return [(record, born) for born, record in events(trace)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_addresses_and_counts_are_the_twins(seed):
    draw = random.Random(seed)
    trace = random_trace(draw, draw.choice([0, 1, 5, 40]))
    offsets = random_plan(draw, trace)
    peak = max((offsets[r.id] + r.padded for r in trace.records), default=0)
    deaths = {f"x{at}": draw.randrange(-30, 300) for at in range(30)}
    predictor = draw.choice([Learned({"x1": 9}), Known(deaths)])
    options = (draw.choice([None, peak, peak + 500]), draw.choice([1, 48, 64]))
    made = PlannedNative(trace, offsets, predictor, *options)
    twin = Planned(trace, offsets, predictor, *options)
    sizes, live = {record.id: record.size for record in trace.records}, set()
    for name in random_names(draw, trace, 150):
        if name in live:
            twin.free(name)
            made.free(name)
            live.remove(name)
            continue
        known = name in sizes and draw.random() < 0.9
        size = sizes[name] if known else draw.randrange(300)
        expected = outcome(twin, name, size)
        assert outcome(made, name, size) == expected
        if not isinstance(expected, str):
            live.add(name)
        assert (made.counts, made.reserved) == (twin.counts, twin.reserved)
        assert made.allocated == twin.allocated
    assert made.learned().spans == twin.learned().spans


def soak_events(seed, trace, count):
    """Numbers and sizes of random events: planned ones in order with mistakes, and others."""
    draw = np.random.default_rng(seed)
    right = [record.size for record in trace.records]
    planned = [trace.records.index(record) for record, _ in _ordered(trace)]
    live: list[int] = []
    where: dict[int, int] = {}
    numbers, asked, at = [], [], 0
    for kind, pick, size in zip(
        draw.random(count).tolist(),
        draw.random(count).tolist(),
        draw.integers(0, 2000, count).tolist(),
        strict=True,
    ):
        if kind < 0.7:
            number, at = planned[at % len(planned)], at + 1
        elif live and (len(live) > 120 or kind < 0.85):
            number = live[int(pick * len(live))]
        else:
            number = int(pick * (len(right) + 200))
        numbers.append(number)
        if number in where:
            asked.append(-1)
            last, place = live.pop(), where.pop(number)
            if last != number:
                live[place], where[last] = last, place
        else:
            asked.append(right[number] if number < len(right) and size > 200 else size)
            where[number] = len(live)
            live.append(number)
    return np.array(numbers), np.array(asked)


def overlaps(numbers, sizes, addresses):
    """How many allocations lie in what is live, by a map of all units of 64 bytes."""
    low, high = addresses // 64, -(-(addresses + sizes) // 64)
    used = np.zeros(int(high[sizes >= 0].max()), bool)
    held, found = {}, 0
    for number, size, start, end in zip(
        numbers.tolist(), sizes.tolist(), low.tolist(), high.tolist(), strict=True
    ):
        if size < 0:
            start, end = held.pop(number)
            used[start:end] = False
        else:
            found += bool(used[start:end].any())
            used[start:end] = True
            held[number] = start, end
    return found


def test_a_million_random_events_never_overlap():
    draw = random.Random(1)
    births = sorted(draw.randrange(100) for _ in range(150))
    trace = Trace(
        tuple(
            Lifetime(f"p{at}", 64 * draw.randint(0, 20), birth, birth + draw.randint(1, 30), 64)
            for at, birth in enumerate(births)
        )
    )
    plan = pack(trace, PackConfig(seconds=600.0, rounds=1, moves=5))
    allocator = PlannedNative(trace, plan.offsets, alignment=64)
    for at in range(200):
        allocator.number(f"x{at}")
    numbers, sizes = soak_events(2, trace, 1_000_000)
    addresses = allocator.replay(numbers, sizes)
    assert overlaps(numbers, sizes, addresses) == 0
    assert (addresses[sizes >= 0] % 64 == 0).all()
    assert (addresses + sizes).max() <= allocator.reserved
    counts = allocator.counts
    assert min(counts.hits, counts.gaps, counts.fallback, counts.missed) > 1000
    # The check would see an overlap.
    moved = addresses.copy()
    moved[sizes > 64] = 0
    assert overlaps(numbers[:1000], sizes[:1000], moved[:1000]) > 0


def test_a_batch_is_the_single_calls():
    one, other = native(capacity=210), native(capacity=210)
    assert isinstance(make_planned(TRACE, OFFSETS), PlannedNative)
    batch = [one.number(name) for name in ("bottom", "top", "x", "late", "late", "x", "late")]
    sizes = [100, 50, 60, 50, -1, -1, 50]
    assert one.replay(batch, sizes).tolist() == [0, 150, -1, 100, 0, 0, 100]
    other.malloc("bottom", 100)
    other.malloc("top", 50)
    with pytest.raises(MemoryError, match=r"'x': 60 bytes do not fit: .* end at 260, .* is 210"):
        other.malloc("x", 60)
    other.malloc("late", 50)
    assert (one.reserved, one.allocated, one.peak) == (other.reserved, other.allocated, 200)


def test_runs_learn_alike():
    made, twin = native(), Planned(TRACE, OFFSETS, alignment=1)
    other = Lifetime("x", 30, 1, 3)
    for allocator in (made, twin):
        for _ in range(2):
            run(allocator, events(Trace((*TRACE.records, other))))
    assert made.counts == twin.counts and made.learned().spans == twin.learned().spans == {"x": 1}
    with pytest.raises(MemoryError, match="buffer 'x': 30 bytes do not fit"):
        run(native(capacity=200), [(True, r) for r in (*TRACE.records, other)])


class Never:
    """Another predictor, which only the twin can ask."""

    def death(self, id: str, now: int) -> int | None:
        return None

    def freed(self, id: str, span: int) -> None:
        pass


def test_mistakes_are_refused():
    allocator = native()
    allocator.malloc("x", 5)
    for call, message in (
        (lambda: allocator.malloc("x", 5), "'x' is live"),
        (lambda: allocator.malloc("y", -1), "'y': size is -1"),
        (lambda: allocator.free("y"), "'y' is not live"),
        (lambda: allocator.free("never"), "'never' is not live"),
        (lambda: allocator.replay([0, 0], [1, 1]), "'bottom' is live"),
        (lambda: allocator.replay([1], [-1]), "'top' is not live"),
        (lambda: allocator.replay([99], [1]), "numbers must be 0 to 3"),
        (lambda: allocator.replay([0], [1, 2]), "give equal lengths"),
        (lambda: native(predictor=Never()), "predictor is .*Never"),
        (lambda: native(capacity=199), "capacity is 199: the plan alone needs 200"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_without_a_library_the_twin_is_used(monkeypatch):
    monkeypatch.setattr(online, "native", lambda: None)
    assert not online.available() and isinstance(make_planned(TRACE, OFFSETS), Planned)
    with pytest.raises(RuntimeError, match="loomax.jaxlib_ext.build"):
        native()
