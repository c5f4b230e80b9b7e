"""What physics carries from one control step to the next."""

from typing import no_type_check

from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class PhysicsState:
    """Position, velocity, solver warm start and time (s) of one world."""

    qpos: Float[Array, " Q"]
    qvel: Float[Array, " V"]
    qacc_warmstart: Float[Array, " V"]
    time: Float[Array, ""]


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class Poses:
    """World poses of every geom and camera, in metres; matrices are row-major rotations."""

    geom_pos: Float[Array, "G 3"]
    geom_mat: Float[Array, "G 3 3"]
    cam_pos: Float[Array, "C 3"]
    cam_mat: Float[Array, "C 3 3"]
