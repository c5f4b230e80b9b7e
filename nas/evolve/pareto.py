"""Non-dominated sorting and crowding distance. Imports no JAX.

Source: NSGA-II, Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002, sections
III-A and III-B. All objectives are minimised.
"""

from collections.abc import Sequence

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """The front of each point: 0 for those that no other dominates, 1 for those that only these
    dominate, and so on.

    One point dominates another if it is nowhere worse and somewhere better.

    Args:
        values: [points, objectives].

    Returns:
        int64 [points].
    """
    dominates = _dominates(values)
    dominators = dominates.sum(axis=0)
    found = np.full(len(values), -1)
    for rank in range(len(values)):
        front = (dominators == 0) & (found < 0)
        if not front.any():
            break
        found[front] = rank
        dominators -= dominates[front].sum(axis=0)
    return found


def _dominates(values: np.ndarray) -> np.ndarray:
    """[a, b]: whether a dominates b."""
    shape = (len(values), len(values))
    nowhere_worse, somewhere_better = np.ones(shape, bool), np.zeros(shape, bool)
    for column in values.T:
        nowhere_worse &= column[:, None] <= column
        somewhere_better |= column[:, None] < column
    return nowhere_worse & somewhere_better


def crowding(values: np.ndarray) -> np.ndarray:
    """How far apart the neighbours of each point of one front are, as shares of the front's
    extent, summed over objectives; infinite at the ends.

    Args:
        values: [points, objectives].

    Returns:
        float64 [points].
    """
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
    return distance


def best_first(values: np.ndarray) -> np.ndarray:
    """Numbers of the points by rank, the less crowded first within a rank: int64 [points]."""
    rank, distance = ranks(values), np.zeros(len(values))
    for front in range(rank.max() + 1 if len(rank) else 0):
        distance[rank == front] = crowding(values[rank == front])
    return np.lexsort((-distance, rank))


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area that points of two objectives dominate, up to `reference`."""
    area, height = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y < height:
            area += (reference[0] - x) * (height - y)
            height = y
    return area
