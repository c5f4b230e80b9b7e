"""The compiled planner against its twin, and on packings that are perfect by construction."""

import random
from dataclasses import asdict

import pytest

from loomax.jaxlib_ext import planner
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.plan import check_plan
from loomax.memory.planner.twin.random import SplitMix
from loomax.memory.planner.twin.rounds import Options, luby, make_plan

needs_native = pytest.mark.skipif(not planner.available(), reason="no compiled planner")


def sliced(count: int, seed: int, side: int = 64) -> list[tuple[int, int, int]]:
    """A square of time x memory cut into rectangles (lower, upper, size): they fit into `side`.

    Besides straight cuts some are pinwheels, which no straight cut separates.
    """
    draw, parts = random.Random(seed), [(0, side, 0, side)]
    while len(parts) < count:
        parts.sort(key=lambda p: (p[1] - p[0]) * (p[3] - p[2]) * draw.random())
        a, b, c, d = parts.pop()
        if min(b - a, d - c) >= 3 and draw.random() < 0.3:
            x, v = sorted(draw.sample(range(a + 1, b), 2))
            y, w = sorted(draw.sample(range(c + 1, d), 2))
            parts += [(a, v, c, y), (v, b, c, w), (x, b, w, d), (a, x, y, d), (x, v, y, w)]
        elif b - a >= max(2, d - c) or d - c < 2:
            x = draw.randrange(a + 1, b)
            parts += [(a, x, c, d), (x, b, c, d)]
        else:
            y = draw.randrange(c + 1, d)
            parts += [(a, b, c, y), (a, b, y, d)]
    draw.shuffle(parts)
    return [(a, b, d - c) for a, b, c, d in parts]


def loose(count: int, seed: int) -> list[tuple[int, int, int]]:
    draw = random.Random(seed)
    births = [draw.randrange(12) for _ in range(count)]
    return [(b, b + draw.randrange(1, 8), draw.randrange(1, 12)) for b in births]


def check(parts, offsets, peak):
    trace = Trace(tuple(Lifetime(str(i), s, a, b) for i, (a, b, s) in enumerate(parts)))
    check_plan(trace, {str(i): offset for i, offset in enumerate(offsets)}, peak)


@needs_native
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("make", "capacity"), [(loose, -1), (sliced, -1), (sliced, 64), (sliced, 65)]
)
def test_the_twin_makes_the_same_plan(make, capacity, seed):
    parts = make(8 + 3 * seed, seed)
    options = Options(capacity, seed, moves=20, rounds=2, seconds=600.0, gap=0.0)
    twin = make_plan(*zip(*parts, strict=True), options)
    check(parts, twin.offsets, twin.peak)
    for threads in (1, 3):
        made = planner.pack(*zip(*parts, strict=True), threads=threads, **asdict(options))
        assert (made.offsets, made.method) == (tuple(twin.offsets), twin.method)
        assert (made.peak, made.lower_bound, made.nodes) == (
            twin.peak,
            twin.lower_bound,
            twin.nodes,
        )


@needs_native
@pytest.mark.parametrize(("count", "seed"), [(60, 1), (90, 2), (120, 3), (150, 4)])
def test_perfect_packings_are_found(count, seed):
    parts = sliced(count, seed, side=1024)
    options = Options(1024, 0, moves=50, rounds=8, seconds=600.0, gap=0.0)
    made = planner.pack(*zip(*parts, strict=True), threads=2, **asdict(options))
    check(parts, made.offsets, 1024)
    assert made.peak == made.lower_bound == 1024


@needs_native
def test_a_gap_is_good_enough():
    parts = sliced(60, 1, side=1024)
    options = Options(-1, 0, moves=0, rounds=-1, seconds=600.0, gap=0.5)
    made = planner.pack(*zip(*parts, strict=True), threads=1, **asdict(options))
    check(parts, made.offsets, made.peak)
    assert made.peak <= 1536 and made.lower_bound == 1024


@needs_native
def test_nested_lifetimes_by_the_hundred_reach_the_bound():
    """A training step: what the forward pass keeps dies in the reverse order."""
    draw, parts = random.Random(0), []
    for layer in range(150):
        for _ in range(4):
            parts.append((10 * layer, 3000 - 10 * layer, draw.randrange(1, 4000)))
        for start in (10 * layer + 1, 2991 - 10 * layer):
            length, size = draw.randrange(1, 9), draw.randrange(1, 9000)
            parts.append((start, start + length, size))
    options = Options(-1, 0, moves=2000, rounds=4, seconds=600.0, gap=0.001)
    made = planner.pack(*zip(*parts, strict=True), threads=2, **asdict(options))
    check(parts, made.offsets, made.peak)
    assert made.peak <= 1.001 * made.lower_bound


def test_random_numbers_are_those_of_splitmix():
    """First outputs for seed 1234567, from the reference implementation's published vector."""
    draw = SplitMix(1234567)
    assert [draw.next() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_rounds_have_lubys_lengths():
    assert [luby(turn) for turn in range(1, 16)] == [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]


def test_without_a_library_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(planner, "native", lambda: None)
    assert not planner.available()
    options = Options(-1, 0, moves=0, rounds=0, seconds=1.0, gap=0.0)
    with pytest.raises(RuntimeError, match="loomax.jaxlib_ext.build"):
        planner.pack([0], [1], [1], threads=1, **asdict(options))
