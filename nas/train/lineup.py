"""The nets of a step in rounds: each device of the `subnet` axis runs one net a round.

Shape letters: R rounds, D devices.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool

from loomax.nas.space.encode import encode
from loomax.nas.space.space import Space
from loomax.nas.train.choice import Choice


class Lineup(NamedTuple):
    """A pytree argument of the compiled step, with leading axes [R, D].

    Args:
        sizes: of `loomax.nas.space.encode`.
        teaches: whether the net's outputs are targets of the rounds behind it.
        learns: whether the net learns from the targets of the rounds before it.
        runs: False where a device has nothing to do.
    """

    sizes: Any
    teaches: Bool[np.ndarray, "R D"]
    learns: Bool[np.ndarray, "R D"]
    runs: Bool[np.ndarray, "R D"]


class Rounds(NamedTuple):
    """A step's rounds.

    Args:
        lineup: see there.
        sides: of the images in each round, pixels.
        places: for each net, its place in the flattened [R, D].
    """

    lineup: Lineup
    sides: tuple[int, ...]
    places: tuple[int, ...]


def line_up(space: Space, choice: Choice, devices: int) -> Rounds:
    """Puts nets with images of one side into a round, all teachers before all students."""
    rounds: list[list[int]] = []
    keys: list[tuple[bool, int]] = []
    wanted = [(net >= choice.teachers, arch.resolution) for net, arch in enumerate(choice.archs)]
    for net in sorted(range(len(wanted)), key=lambda net: wanted[net]):
        key = wanted[net]
        if not keys or keys[-1] != key or len(rounds[-1]) == devices:
            rounds.append([])
            keys.append(key)
        rounds[-1].append(net)
    # An idle device is handed the round's first net, which it leaves alone.
    filled = [row + row[:1] * (devices - len(row)) for row in rounds]
    sizes = [[encode(space, choice.archs[net]) for net in row] for row in filled]
    rows = [jax.tree.map(lambda *leaves: np.stack(leaves), *row) for row in sizes]
    net = np.asarray(filled)
    runs = np.asarray([[d < len(row) for d in range(devices)] for row in rounds])
    has_students = choice.teachers < len(choice.archs)
    lineup = Lineup(
        jax.tree.map(lambda *leaves: np.stack(leaves), *rows),
        (net < choice.teachers) & has_students & runs,
        (net >= choice.teachers) & runs,
        runs,
    )
    places = {n: r * devices + d for r, row in enumerate(rounds) for d, n in enumerate(row)}
    return Rounds(
        lineup, tuple(side for _, side in keys), tuple(places[n] for n in range(len(places)))
    )
