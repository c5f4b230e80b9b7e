"""Sorting and crowding against the definitions, written out."""

import numpy as np
import pytest

from loomax.nas.evolve.pareto import best_first, crowding, hypervolume, ranks


def dominates(a, b) -> bool:
    pairs = list(zip(a, b, strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def peeled(points: list) -> list[int]:
    """Takes the points that none of the rest dominates away, again and again."""
    found, rest, rank = {}, set(range(len(points))), 0
    while rest:
        best = [i for i in rest if not any(dominates(points[j], points[i]) for j in rest)]
        found |= dict.fromkeys(best, rank)
        rest -= set(best)
        rank += 1
    return [found[i] for i in range(len(points))]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_ranks_are_those_of_peeling(objectives):
    rng = np.random.default_rng(objectives)
    for _ in range(20):
        # Few values, so that points share some, or all, of theirs.
        values = rng.integers(0, 6, (25, objectives)).astype(float)
        assert ranks(values).tolist() == peeled(values.tolist())


def test_crowding_is_the_distance_of_the_neighbours():
    # x from 0 to 10, y from 8 to 0: the middle ones have neighbours at known distances.
    values = np.asarray([[0, 8], [1, 6], [4, 4], [10, 0]], float)
    expected = [np.inf, 4 / 10 + 4 / 8, 9 / 10 + 6 / 8, np.inf]
    np.testing.assert_allclose(crowding(values), expected)
    order = np.asarray([2, 0, 3, 1])
    np.testing.assert_allclose(crowding(values[order]), np.asarray(expected)[order])


def test_crowding_of_equal_points():
    assert np.isinf(crowding(np.ones((2, 2)))).all()
    assert crowding(np.ones((4, 2))).tolist().count(0) >= 1


def test_the_best_come_first():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, (30, 2)).astype(float)
    order, rank = best_first(values), peeled(values.tolist())
    assert sorted(order.tolist()) == list(range(30))
    keys = []
    for place in order:
        front = [i for i in range(30) if rank[i] == rank[place]]
        keys.append((rank[place], -crowding(values[front])[front.index(place)]))
    assert keys == sorted(keys)


def test_hypervolume_is_the_share_of_a_grid():
    rng = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in rng.integers(0, 12, (7, 2))]
    cells = sum(any(px <= x and py <= y for px, py in points) for x in range(10) for y in range(10))
    assert hypervolume(points, (10.0, 10.0)) == cells
    assert hypervolume([], (1.0, 1.0)) == 0
