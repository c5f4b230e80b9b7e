"""Settings of the task-space controller."""

import math
from dataclasses import dataclass

ACTION_SIZE = 7


@dataclass(frozen=True)
class ControlConfig:
    """How a 7-D action in [-1, 1] moves the arm.

    Attributes:
        position_scale: metres of target displacement for an action of 1 (actions 0, 1, 2: world
            xyz).
        rotation_scale: radians of target rotation for an action of 1. Of the three rotations
            (actions 3, 4, 5: roll, pitch, yaw) only yaw acts; the gripper always points down.
        yaw_limit: largest absolute target yaw in radians.
        low: lowest target position; its z keeps the finger pads off the table.
        high: highest target position.
        damping: added to the diagonal of J J^T in damped least squares.
        home_pull: share of the distance to the home joints that the null space removes a step.
        ik_steps: damped-least-squares steps per control step.
        max_joint_step: largest joint displacement of one such step in radians.
    """

    position_scale: float = 0.05
    rotation_scale: float = 0.5
    yaw_limit: float = 0.9
    low: tuple[float, float, float] = (0.30, -0.30, 0.012)
    high: tuple[float, float, float] = (0.70, 0.30, 0.40)
    damping: float = 1e-3
    home_pull: float = 0.05
    ik_steps: int = 2
    max_joint_step: float = 0.5

    def __post_init__(self):
        positive = ("position_scale", "rotation_scale", "yaw_limit", "damping", "max_joint_step")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"control.{name} is {getattr(self, name)}; it must be above 0 and finite"
                )
        if not 0 <= self.home_pull <= 1:
            raise ValueError(f"control.home_pull is {self.home_pull}; it must lie in [0, 1]")
        if self.ik_steps < 1:
            raise ValueError(f"control.ik_steps is {self.ik_steps}; it must be at least 1")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(
                f"control.low is {self.low} and control.high {self.high}; low must be below high"
            )
