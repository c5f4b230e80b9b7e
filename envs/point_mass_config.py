"""Configuration of the point mass. Imports no JAX."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PointMassConfig:
    """A point in the plane that must come near a goal.

    Args:
        horizon: steps of an episode.
        speed: distance that an action of 1 covers in a step.
        radius: distance from the goal that counts as success.
    """

    horizon: int = 8
    speed: float = 0.25
    radius: float = 0.15

    def __post_init__(self):
        if self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon}; it must be at least 1 step")
        for name in ("speed", "radius"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and finite")
