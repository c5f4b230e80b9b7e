"""Pareto fronts of costs: rows (devices, latency, period, resident, peak), less is better."""

from dataclasses import dataclass

import numpy as np

DEVICES, LATENCY, PERIOD, RESIDENT, PEAK = range(5)
BLOCK = 256


@dataclass(frozen=True)
class Front:
    """Costs that no other one beats, and where each comes from.

    Args:
        values: float64 [rows, 5].
        origin: int64 [rows, 4]: what the maker of the rows needs to build the plan again.
    """

    values: np.ndarray
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


def pareto(values: np.ndarray) -> np.ndarray:
    """Indices of the rows that no other row equals or beats in every column.

    Of equal rows the first stays. In lexical order only an earlier row can beat a later one, so
    one pass over blocks suffices.
    """
    if len(values) == 0:
        return np.zeros(0, np.int64)
    order = np.lexsort(values.T[::-1])
    rows = values[order]
    kept = np.zeros(len(rows), bool)
    front = rows[:0]
    earlier = np.tri(BLOCK, k=-1, dtype=bool)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        alive = np.flatnonzero(~_beaten(block, front))
        block = block[alive]
        pairs = _beats(block, block) & earlier[: len(block), : len(block)].T
        alive, block = alive[~pairs.any(0)], block[~pairs.any(0)]
        kept[start + alive] = True
        front = np.concatenate([front, block])
    return np.sort(order[kept])


def _beats(front: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[front, rows]: whether the one is at most the other in every column."""
    result = np.ones((len(front), len(rows)), bool)
    for column in range(front.shape[1]):
        result &= front[:, column, None] <= rows[None, :, column]
    return result


def _beaten(rows: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Whether something in the front is at most as large in every column."""
    return _beats(front, rows).any(0)


def collect(parts: list[Front]) -> Front:
    """The front of several fronts; of equal costs the first stays."""
    values = np.concatenate([part.values for part in parts] or [np.zeros((0, 5))])
    origin = np.concatenate([part.origin for part in parts] or [np.zeros((0, 4), np.int64)])
    kept = pareto(values)
    return Front(values[kept], origin[kept])
