"""Configuration of the point mass. Imports no JAX."""

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
