"""The plan's calendar: its time, and what is needed in a span of it; gaps, by brute force."""

import random

import pytest

from loomax.memory.allocator.calendar import Calendar
from loomax.memory.allocator.places import Places, best_gap
from loomax.memory.lifetimes.record import Lifetime

A, B, C = Lifetime("a", 1, 10, 14), Lifetime("b", 2, 12, 20), Lifetime("c", 3, 16, 20)
AT = {"a": 0, "b": 10, "c": 20}


def calendar():
    return Calendar((C, A, B), AT)


@pytest.mark.parametrize(
    ("until", "names"),
    [
        (10, ""),
        (12, "a"),
        (13, "ab"),
        (17, "abc"),
        (20, "abc"),
        (None, "abc"),
        (99, "abc"),
    ],
)
def test_what_is_born_before_a_time_is_needed(until, names):
    sizes = {"a": 1, "b": 2, "c": 3}
    assert calendar().needed(until) == [(AT[name], AT[name] + sizes[name]) for name in names]


@pytest.mark.parametrize(("until", "places"), [(20, []), (12, [(0, 1)]), (22, [(0, 1)])])
def test_what_is_over_lies_in_the_next_iteration(until, places):
    time = calendar()
    for record in (A, B, C):
        time.born(record)
    time.died(C)
    assert time.now == 20 and time.needed(until) == places


def test_time_goes_on_through_iterations():
    time, seen = calendar(), []
    for event, record in [
        (time.born, A),
        (time.born, B),
        (time.died, A),
        (time.born, C),
        (time.died, C),
        (time.born, A),  # b is late
        (time.died, B),
        (time.born, B),
    ]:
        event(record)
        seen.append((time.turn, time.now, time.reached))
    assert seen == [
        (0, 10, 11),
        (0, 12, 13),
        (0, 14, 14),
        (0, 16, 17),
        (0, 20, 20),
        (1, 10, 21),
        (1, 10, 21),
        (1, 12, 23),
    ]


def test_a_small_delay_does_not_set_the_time_back():
    time = calendar()
    for record in (A, C, B):
        time.born(record)
    assert (time.turn, time.now) == (0, 16)


@pytest.mark.parametrize("seed", range(30))
def test_the_best_gap_against_trying_all_places(seed):
    draw = random.Random(seed)
    obstacles = [(low, low + draw.randint(1, 9)) for low in draw.choices(range(60), k=6)]
    size, alignment, end = draw.randint(1, 9), draw.choice([1, 4]), 70
    taken = [any(low <= at < high for low, high in obstacles) for at in range(end)] + [True]
    found = []  # (length of the gap from its first aligned place on, that place)
    for start in range(end):
        if not taken[start] and (start == 0 or taken[start - 1]):
            place = -(-start // alignment) * alignment
            length = taken.index(True, start) - place
            if length >= size:
                found.append((length, place))
    behind = -(-max(high for _, high in obstacles) // alignment) * alignment
    assert best_gap(obstacles, size, end, alignment) == (min(found)[1] if found else behind)


def test_places_know_what_is_clear():
    places = Places()
    places.add(10, 20)
    places.add(30, 40)
    places.add(25, 25)
    assert places.clear(20, 30) and places.clear(0, 10) and places.clear(40, 99)
    assert not places.clear(19, 21) and not places.clear(29, 31) and not places.clear(0, 99)
    places.remove(10, 20)
    assert places.clear(0, 30)
