"""Networks with what a search knows of them. Imports no JAX."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loomax.nas.evolve.pareto import ranks
from loomax.nas.space.arch import Arch


@dataclass(frozen=True)
class Candidate:
    """One network.

    Args:
        latency: predicted, seconds.
        score: on the search split, in [0, 1]; more is better.
    """

    arch: Arch
    latency: float
    score: float


def objectives(candidates: Iterable[Candidate]) -> np.ndarray:
    """[candidates, 2], both to be minimised: minus the score, and the latency."""
    rows = [(-candidate.score, candidate.latency) for candidate in candidates]
    return np.asarray(rows, np.float64).reshape(-1, 2)


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other dominates, from fast to slow."""
    rank = ranks(objectives(candidates))
    best = [candidate for candidate, place in zip(candidates, rank, strict=True) if place == 0]
    return sorted(best, key=lambda candidate: candidate.latency)
