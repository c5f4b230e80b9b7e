"""Settings of a search. Imports no JAX."""

from dataclasses import dataclass
from typing import Literal

# Of networks that are searched, see `loomax.nas.evolve.judge`: the mean probability of the right
# class, or the share of images that are right.
Measure = Literal["confidence", "accuracy"]


@dataclass(frozen=True)
class EvolveConfig:
    """A search.

    Args:
        candidates: networks that are judged, each once.
        population: that the next generation comes from; the first one is drawn.
        crossover: share of children with two parents.
        mutation: choices of a child that are redrawn, on average; some stay as they were.
        tries: of a child until it is new and within the window; then a network is drawn instead.
        batch: networks that are judged at once, and then logged.
        seed: of everything that is drawn.

    Raises:
        ValueError: a setting is out of range.
    """

    candidates: int = 1000
    population: int = 64
    crossover: float = 0.5
    mutation: float = 2.0
    tries: int = 16
    batch: int = 16
    seed: int = 0

    def __post_init__(self):
        for name, least in (("candidates", 1), ("population", 2), ("tries", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least {least}")
        if not 0 <= self.crossover <= 1:
            raise ValueError(f"crossover is {self.crossover}: give a share in [0, 1]")
        if not self.mutation > 0:
            raise ValueError(f"mutation is {self.mutation}: give more than 0 choices")
