"""Seconds of an engine step, fitted while the engine runs.

Shape letters: 3 weights: of a step, of a decoding request, of a prefilled token.
"""

import numpy as np

from loomax.agents.search.engine_protocol import StepRecord

# What speaks against a weight as long as nothing shows it: an idle engine only ever shows the sum
# of the first two, which then counts as the cost of the step itself.
DOUBT = np.diag([1e-9, 1e-2, 1e-2])


class CostModel:
    """Least squares over the step log with exponential forgetting.

    Args:
        memory: what is left of a step after one more.
    """

    def __init__(self, memory: float = 0.999):
        self._memory = memory
        self._products, self._sums = np.zeros((3, 3)), np.zeros(3)
        self._weights = np.zeros(3)
        self._stale = False

    def add(self, record: StepRecord) -> None:
        """Learns of one line of the step log."""
        left = self._memory**record.count
        # The sum of a geometric row: `count` equal steps one after the other.
        weight = (1 - left) / (1 - self._memory) if self._memory < 1 else float(record.count)
        features = np.array([1.0, record.decoding, record.prefilled])
        self._products = left * self._products + weight * np.outer(features, features)
        self._sums = left * self._sums + weight * features * record.seconds
        self._stale = True

    def seconds(self, decoding: float, prefilled: float = 0.0) -> float:
        """Expected seconds of a step; 0 before anything was seen."""
        weights = self._fitted()
        return float(weights[0] + weights[1] * decoding + weights[2] * prefilled)

    def _fitted(self) -> np.ndarray:
        if self._stale:
            solved = np.linalg.solve(self._products + DOUBT, self._sums)
            self._weights, self._stale = np.maximum(solved, 0.0), False
        return self._weights
