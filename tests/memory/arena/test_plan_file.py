"""Plans of loops: places that hold round after round, and files that are refused."""

import random
from dataclasses import replace

import pytest

from loomax.memory.arena.loop import Request, mark
from loomax.memory.arena.orbit import find_orbit
from loomax.memory.arena.plan_file import LEFT, ArenaPlan, plan_log, read_plan, write_plan
from loomax.memory.lifetimes.log_file import OPEN
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace


def overlaps(loop, offsets, rounds=30):
    """Brute force: pairs of buffers that live at once and meet, in many rounds."""
    placed = []
    for turn in range(rounds):
        for request, offset in zip(loop, offsets[turn % len(offsets)], strict=True):
            if offset is not None and offset != LEFT:
                shift = turn * len(loop)
                placed.append((request.birth + shift, request.death + shift, offset, request.size))
    return [
        (a, b)
        for i, a in enumerate(placed)
        for b in placed[i + 1 :]
        if a[0] < b[1] and b[0] < a[1] and a[2] < b[2] + b[3] and b[2] < a[2] + a[3]
    ]


def trace_of_loop(loop, rounds=6, kept=()):
    """A trace of rounds of a loop; positions in `kept` are never freed."""
    end = 10 * (rounds + 5) * len(loop)
    records = []
    for turn in range(rounds):
        for at, request in enumerate(loop):
            birth = 10 * (turn * len(loop) + request.birth)
            death = 10 * (turn * len(loop) + request.death) - 5
            open_ = at in kept
            records.append(
                Lifetime(
                    f"{turn}.{at}",
                    request.size,
                    birth,
                    end if open_ else death,
                    request.alignment,
                    OPEN if open_ else "",
                )
            )
    return Trace(tuple(records))


def test_two_rounds_in_flight_need_two_places():
    # Temporaries that live into the next round, and outputs that live through the next two: on a
    # circle of three rounds the temporaries would need three places.
    loop = [Request(64, 64, 0, 6), Request(6400, 64, 1, 4)]
    orbit = find_orbit(loop, [True, True], 64)
    assert orbit.peak == 2 * 6400 + 3 * 64
    assert overlaps(loop, orbit.offsets) == []
    plan = plan_log(trace_of_loop(loop))
    assert plan.bytes == plan.lower_bound == 2 * 6400 + 3 * 64


@pytest.mark.parametrize("seed", range(8))
def test_places_hold_in_every_round(seed):
    draw = random.Random(seed)
    count = draw.randrange(2, 9)
    loop = [
        Request(64 * draw.randrange(1, 40), 64, at, at + draw.randrange(1, 3 * count))
        for at in range(count)
    ]
    plan = plan_log(trace_of_loop(loop, rounds=8))
    offsets = [
        [offset for _, offset, _ in plan.requests[at : at + count]]
        for at in range(0, len(plan.requests), count)
    ]
    assert LEFT not in {offset for places in offsets for offset in places}
    assert overlaps(loop, offsets) == []
    assert plan.lower_bound <= plan.bytes


def test_too_many_buffers_are_not_put_in_a_row():
    loop = [Request(64, 64, at, at + 1) for at in range(200)]
    assert find_orbit(loop, [True] * 200, 64) is None
    assert plan_log(trace_of_loop(loop)).bytes == 64


def test_what_is_never_freed_is_left_to_libc():
    loop = [Request(128, 64, 0, 2), Request(256, 64, 1, 2), Request(512, 64, 2, 3)]
    plan = plan_log(trace_of_loop(loop, kept=(1,)))
    assert [request[1] == LEFT for request in plan.requests] == [False, True, False]
    with pytest.raises(ValueError, match="all that its loop allocates outlives it"):
        plan_log(trace_of_loop(loop, kept=(0, 1, 2)))


def test_a_life_of_five_rounds_is_left_to_libc():
    loop = [Request(128, 64, 0, 9), Request(256, 64, 1, 2)]
    plan = plan_log(trace_of_loop(loop, rounds=9))
    assert [request[1] for request in plan.requests] == [LEFT, 0]


PLAN = ArenaPlan(((100, 0, 64), (50, 128, 64), (70, LEFT, 64)), 192, 178)


def test_files_are_read_back(tmp_path):
    path = tmp_path / "plan.json"
    write_plan(PLAN, path)
    assert read_plan(path) == PLAN
    assert PLAN.program == sum(map(mark, (100, 50, 70))) % 2**64


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{", "", "not JSON"),
        ("loomax_arena_plan", "other", "not a plan of the arena: it has no 'loomax_arena_plan'"),
        ('"bytes": 192', '"bytes": "x"', "bytes is 'x': it must be int"),
        ("[100, 0, 64]", "[100, 0]", r"request 1: \[100, 0\] is not \[size, offset, alignment\]"),
        ("[100, 0, 64]", "[100, 1, 64]", "request 1: offset 1 is no multiple of a power of two 64"),
        ("[100, 0, 64]", "[100, 0, 48]", "no multiple of a power of two 48"),
        ("[100, 0, 64]", "[-1, 0, 64]", "size -1 and offset 0"),
        ("[50, 128, 64]", "[50, 192, 64]", "request 2: it ends at 242, beyond 192 bytes"),
        ("[100, 0, 64]", "[101, 0, 64]", "it is damaged; plan again"),
    ],
)
def test_broken_files_are_refused(tmp_path, old, new, said):
    path = tmp_path / "plan.json"
    write_plan(PLAN, path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=said):
        read_plan(path)


def test_a_file_without_requests_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    write_plan(replace(PLAN, requests=()), path)
    with pytest.raises(ValueError, match="it has no requests"):
        read_plan(path)
