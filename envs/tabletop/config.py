"""Configuration of the tabletop tasks. Imports no JAX."""

import math
from dataclasses import dataclass, field
from typing import Literal

from loomax.envs.control.config import ControlConfig

CUBE_COLOURS = ("red", "green", "blue", "yellow")
DISC_COLOURS = ("purple", "white", "cyan")


@dataclass(frozen=True)
class TabletopConfig:
    """A task on the table.

    Args:
        task: "reach" (touch the named cube), "pick" (lift it), "pick-place" (put it on the named
            disc).
        horizon: control steps (50 ms each) of an episode.
        cubes: cubes on the table, all of different colours; one of them is named.
        reward: "sparse" gives 1 at success, once; "shaped" adds differences of a potential that
            rises from 0 to at most 1 as the task proceeds.
        lift_height: metres above rest that count as lifted.
        place_radius: metres between cube and disc centre that count as placed.
        touch_radius: metres between tool and the point above the cube that count as touched.
        pool: number of start poses of the arm.
        image_size, wrist_size: sides of the square images in pixels.
        cameras: which of "scene" and "wrist" are rendered.
    """

    task: Literal["reach", "pick", "pick-place"] = "pick"
    horizon: int = 40
    cubes: int = 3
    reward: Literal["sparse", "shaped"] = "sparse"
    lift_height: float = 0.04
    place_radius: float = 0.04
    touch_radius: float = 0.02
    pool: int = 512
    image_size: int = 64
    wrist_size: int = 32
    cameras: tuple[Literal["scene", "wrist"], ...] = ("scene", "wrist")
    control: ControlConfig = field(default_factory=ControlConfig)

    def __post_init__(self):
        if self.task not in ("reach", "pick", "pick-place"):
            raise ValueError(f"task {self.task!r} is unknown; use reach, pick or pick-place")
        if self.reward not in ("sparse", "shaped"):
            raise ValueError(f"reward {self.reward!r} is unknown; use sparse or shaped")
        for name in ("lift_height", "place_radius", "touch_radius"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be above 0 and finite (metres)"
                )
        if self.pool < 1:
            raise ValueError(f"pool is {self.pool}; it must be at least 1 start pose")
        if not 1 <= self.cubes <= len(CUBE_COLOURS):
            raise ValueError(
                f"cubes is {self.cubes}; it must lie in 1..{len(CUBE_COLOURS)}, one per colour"
            )
        if self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon}; it must be at least 1 control step")
        if min(self.image_size, self.wrist_size) < 1:
            raise ValueError(
                f"image_size {self.image_size} and wrist_size {self.wrist_size} must be at least 1"
            )
        unknown = set(self.cameras) - {"scene", "wrist"}
        if unknown:
            raise ValueError(f"cameras {sorted(unknown)} are unknown; use scene and wrist")

    @property
    def discs(self) -> int:
        """Discs on the table."""
        return 2 if self.task == "pick-place" else 0

    @property
    def instructions(self) -> tuple[str, ...]:
        """Every instruction that the task can give; its index is the observation's."""
        if self.task == "pick-place":
            return tuple(
                f"put the {cube} cube on the {disc} disc"
                for cube in CUBE_COLOURS
                for disc in DISC_COLOURS
            )
        verb = "touch" if self.task == "reach" else "pick up"
        return tuple(f"{verb} the {cube} cube" for cube in CUBE_COLOURS)
