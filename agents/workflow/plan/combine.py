"""The cost rules of `tree`, for all pairs of two fronts at once."""

from collections.abc import Iterator

import numpy as np

from loomax.agents.workflow.plan.front import (
    DEVICES,
    LATENCY,
    PEAK,
    PERIOD,
    RESIDENT,
    Front,
    pareto,
)

# Pairs looked at in one go: bounds the memory of the planner.
PAIRS = 1 << 17


def pairs(first: Front, second: Front) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row indices of all pairs, in pieces."""
    step = max(1, PAIRS // max(1, len(second)))
    column = np.arange(len(second))
    for start in range(0, len(first), step):
        row = np.arange(start, min(start + step, len(first)))
        yield np.repeat(row, len(column)), np.tile(column, len(row))


def keep(one: np.ndarray, two: np.ndarray, exchange_s: float) -> np.ndarray:
    """Time-sharing with both sides resident."""
    values = np.empty_like(one)
    values[:, DEVICES] = np.maximum(one[:, DEVICES], two[:, DEVICES])
    values[:, LATENCY] = one[:, LATENCY] + two[:, LATENCY] + exchange_s
    values[:, PERIOD] = values[:, LATENCY]
    values[:, RESIDENT] = one[:, RESIDENT] + two[:, RESIDENT]
    values[:, PEAK] = np.maximum(one[:, PEAK] + two[:, RESIDENT], two[:, PEAK] + one[:, RESIDENT])
    return values


def swap(
    one: np.ndarray, two: np.ndarray, exchange_s: float, host_bytes_per_s: float
) -> np.ndarray:
    """Time-sharing where the side that waits is in host memory."""
    values = np.empty_like(one)
    moved = 2 * (one[:, RESIDENT] + two[:, RESIDENT]) / host_bytes_per_s
    values[:, DEVICES] = np.maximum(one[:, DEVICES], two[:, DEVICES])
    values[:, LATENCY] = one[:, LATENCY] + two[:, LATENCY] + exchange_s + moved
    values[:, PERIOD] = values[:, LATENCY]
    values[:, RESIDENT] = np.maximum(one[:, RESIDENT], two[:, RESIDENT])
    values[:, PEAK] = np.maximum(one[:, PEAK], two[:, PEAK])
    return values


def space(one: np.ndarray, two: np.ndarray, transfer_s: float, parallel: bool) -> np.ndarray:
    """Space-sharing, in a row or side by side."""
    values = np.maximum(one, two)
    values[:, DEVICES] = one[:, DEVICES] + two[:, DEVICES]
    values[:, PERIOD] = np.maximum(values[:, PERIOD], transfer_s)
    if not parallel:
        values[:, LATENCY] = one[:, LATENCY] + two[:, LATENCY] + transfer_s
    return values


def chunks(values: np.ndarray, count: int) -> np.ndarray:
    """A batch in `count` microbatches."""
    result = values.copy()
    result[:, LATENCY] = values[:, LATENCY] + (count - 1) * values[:, PERIOD]
    result[:, PERIOD] = count * values[:, PERIOD]
    return result


def without_period(front: Front) -> tuple[Front, np.ndarray]:
    """The front for those who wait until a batch is through, and the rows it is made of."""
    columns = [DEVICES, LATENCY, RESIDENT, PEAK]
    kept = pareto(front.values[:, columns])
    return Front(front.values[kept], front.origin[kept]), kept
