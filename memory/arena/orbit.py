"""Offsets of a loop that come again after some rounds, by placing many rounds in a row.

A plan of a circle holds places across its cut for the whole circle, which costs a place more
for buffers that live a little into the next round. In a long row of rounds there is no cut, and the
number of rounds comes out by itself. Imports no JAX.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loomax.memory.arena.loop import Request

# Buffers that are placed at most: it takes time by its square.
MOST_BUFFERS = 4_000
# Rounds that a buffer may live through.
LONGEST = 4
# Rounds after which the places have to come again.
MOST_ROUNDS = 12


@dataclass(frozen=True)
class Orbit:
    """Offsets that come again after some rounds.

    Args:
        offsets: of each round, each request; None: not planned.
        peak: bytes.
    """

    offsets: tuple[tuple[int | None, ...], ...]
    peak: int


def find_orbit(loop: Sequence[Request], chosen: Sequence[bool], alignment: int) -> Orbit | None:
    """Places a row of rounds, larger sizes first, and takes rounds that come again.

    Args:
        loop: requests of one round, in order.
        chosen: which of them are planned; they have deaths.
        alignment: of all offsets.

    Returns:
        None: there are too many, or they do not come again.
    """
    count = 3 * MOST_ROUNDS
    if count * sum(chosen) > MOST_BUFFERS:
        return None
    rounds = _placed(loop, chosen, alignment, count)
    # Neither the first rounds nor the last have all of their neighbours.
    for by in range(1, MOST_ROUNDS + 1):
        one = rounds[LONGEST : LONGEST + by]
        after = rounds[LONGEST + by : LONGEST + 2 * by + LONGEST]
        if after == [one[i % by] for i in range(by + LONGEST)]:
            return Orbit(tuple(one), _top(one, loop))
    return None


def _placed(
    loop: Sequence[Request], chosen: Sequence[bool], alignment: int, count: int
) -> list[tuple[int | None, ...]]:
    """Offsets of each round: each buffer in the lowest gap between those before it."""
    offsets: list[list[int | None]] = [[None] * len(loop) for _ in range(count)]
    planned = [position for position in range(len(loop)) if chosen[position]]
    planned.sort(key=lambda position: -loop[position].size)
    spans = np.zeros((count * len(planned), 4), np.int64)
    done = 0
    for size in sorted({loop[position].size for position in planned}, reverse=True):
        same = sorted(position for position in planned if loop[position].size == size)
        for turn in range(count):
            for position in same:
                shift, request = turn * len(loop), loop[position]
                birth, death = request.birth + shift, request.death + shift
                before = spans[:done]
                met = before[(before[:, 0] < death) & (birth < before[:, 1])]
                places = [(int(low), int(high)) for low, high in met[:, 2:]]
                low = _lowest(places, max(size, 1), alignment)
                spans[done] = birth, death, low, low + max(size, 1)
                done += 1
                offsets[turn][position] = low
    return [tuple(places) for places in offsets]


def _lowest(places: list[tuple[int, int]], size: int, alignment: int) -> int:
    """The lowest gap of at least `size` bytes."""
    level = 0
    for low, high in sorted(places):
        if low - level >= size:
            break
        level = max(level, -(-high // alignment) * alignment)
    return level


def _top(rounds: Sequence[Sequence[int | None]], loop: Sequence[Request]) -> int:
    """The highest end of all places."""
    return max(
        low + request.size
        for places in rounds
        for low, request in zip(places, loop, strict=True)
        if low is not None
    )
