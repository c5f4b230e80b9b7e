"""How well predicted latencies agree with measured ones. Imports no JAX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

TOLERANCE = 0.1


@dataclass(frozen=True)
class Agreement:
    """Over networks that no fit has seen.

    Args:
        count: of networks.
        within: share of predictions within +-10 % of what was measured.
        spearman, kendall: rank correlations; NaN where all are equal.
        mean_error: mean of |predicted / measured - 1|.
    """

    count: int
    within: float
    spearman: float
    kendall: float
    mean_error: float

    def __str__(self) -> str:
        return (
            f"{self.count} held-out networks: {self.within:.0%} within +-10 %, mean error"
            f" {self.mean_error:.1%}, Spearman {self.spearman:.3f}, Kendall {self.kendall:.3f}"
        )


def agreement(predicted: Sequence[float], measured: Sequence[float]) -> Agreement:
    """Compares predictions with measurements, in one unit.

    Raises:
        ValueError: fewer than two networks, or a measurement that is not above 0.
    """
    if len(measured) < 2 or min(measured) <= 0:
        raise ValueError(f"{len(measured)} measurements: give at least 2, all above 0")
    errors = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    ranked = len(set(predicted)) > 1 and len(set(measured)) > 1
    return Agreement(
        len(measured),
        float(np.mean(errors <= TOLERANCE)),
        float(stats.spearmanr(predicted, measured).statistic) if ranked else math.nan,
        float(stats.kendalltau(predicted, measured).statistic) if ranked else math.nan,
        float(errors.mean()),
    )
