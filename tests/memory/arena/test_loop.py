"""Loops in traces of requests, against loops that were built by hand."""

import random

import pytest

from loomax.memory.arena import loop
from loomax.memory.arena.loop import Request, find_loop, loop_of, mark, program_hash
from loomax.memory.lifetimes.log_file import OPEN
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace


def trace_of(events):
    """A trace from (name, size) births and names of deaths, in order."""
    births, deaths, sizes = {}, {}, {}
    for time, event in enumerate(events):
        if isinstance(event, tuple):
            births[event[0]], sizes[event[0]] = time, event[1]
        else:
            deaths[event] = time
    end = len(events) + 1
    return Trace(
        tuple(
            Lifetime(
                name, sizes[name], birth, deaths.get(name, end), 1, "" if name in deaths else OPEN
            )
            for name, birth in births.items()
        )
    )


def test_marks_are_those_of_splitmix64():
    # The first numbers of splitmix64 with seed 0, as published with the generator.
    assert mark(0) == 0xE220A8397B1DCDAF
    assert mark(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


def test_the_hash_does_not_look_at_the_order():
    assert program_hash([1, 2, 2]) == program_hash([2, 1, 2]) != program_hash([1, 1, 2])


def test_the_loop_is_found_behind_a_start_and_before_an_end():
    start, length, rounds = find_loop([9, 8, 7, *[1, 2, 3, 2] * 6, 5, 1, 5])
    assert (length, rounds) == (4, 6) and start == 3
    # A round of rounds: the inner loop explains less.
    outer = [1, 1, 1, 1, 7]
    assert find_loop(outer * 5)[1:] == (5, 5)
    assert find_loop([4] * 9)[1:] == (1, 9)


def test_of_a_long_log_the_end_counts(monkeypatch):
    monkeypatch.setattr(loop, "MOST_REQUESTS", 12)
    assert find_loop([7] * 50 + [1, 2, 3] * 5) == (53, 3, 4)


def test_rounds_may_differ_in_their_order():
    draw, sizes = random.Random(0), [11, 12, 13, 14, 15, 16]
    rounds = []
    for _ in range(8):
        turn = list(sizes)
        at = draw.randrange(5)
        turn[at], turn[at + 1] = turn[at + 1], turn[at]
        rounds += turn
    start, length, count = find_loop(rounds)
    assert length == 6 and count >= 7
    for turn in range(count):
        part = rounds[start + turn * 6 : start + turn * 6 + 6]
        assert sorted(part) == sizes


@pytest.mark.parametrize("sizes", [[], [1], [1, 2, 1, 2], [1, 2, 3, 4, 5, 6]])
def test_no_loop_is_an_error(sizes):
    with pytest.raises(ValueError, match=f"no loop in {len(sizes)} requests"):
        find_loop(sizes)


def test_a_round_of_requests():
    events = []
    for turn in range(4):
        events += [(f"a{turn}", 10), (f"b{turn}", 20), f"a{turn}"]
        # The last round's output is freed behind the second request of this one.
        events += [f"c{turn - 1}"] if turn else []
        events += [(f"c{turn}", 30), f"b{turn}"]
    # The log ends before the last output is freed: earlier ones tell its life.
    assert loop_of(trace_of(events)) == [
        Request(10, 1, 0, 2),
        Request(20, 1, 1, 3),
        Request(30, 1, 2, 5),
    ]


def test_the_longest_life_of_all_rounds_counts():
    events = []
    for turn in range(4):
        events += [(f"a{turn}", 10)]
        events += [] if turn == 2 else [f"a{turn}"]
        events += [(f"b{turn}", 20)]
        events += ["a2"] if turn == 2 else []
        events += [f"b{turn}"]
    assert loop_of(trace_of(events)) == [Request(10, 1, 0, 2), Request(20, 1, 1, 2)]


def test_what_is_never_freed_has_no_death():
    events = []
    for turn in range(4):
        events += [(f"a{turn}", 10), (f"kept{turn}", 20), f"a{turn}"]
    assert loop_of(trace_of(events)) == [Request(10, 1, 0, 2), Request(20, 1, 1, None)]
