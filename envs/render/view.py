"""Geoms seen from the camera: positions and axes in the camera frame, one small array a number.

Numbers are kept as separate [G] arrays because XLA then fuses the whole set-up of a frame into a
few loops; 3x3 matrix products of this size would each become a call of their own on a CPU.
"""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float

# Three components.
Vector = tuple[Array, ...]


class View(NamedTuple):
    """G geoms relative to one camera; every leaf is [G].

    axes[j][i] is component i (camera frame) of local axis j; position the geom's centre in the
    camera frame; origin the camera in the geom's frame; size MuJoCo's sizes; seen is alpha > 0.
    """

    axes: tuple[Vector, ...]
    position: Vector
    origin: Vector
    size: Vector
    seen: Array

    def part(self, slots: slice) -> "View":
        """The same for a run of geoms."""
        return jax.tree.map(lambda leaf: leaf[slots], self)


def dot(a: Vector, b: Vector) -> Array:
    """Inner product of two vectors given by components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def to_camera(cam_mat: Float[Array, "3 3"], world: Vector) -> Vector:
    """A world direction in the camera frame (x right, y up, z backwards)."""
    return tuple(dot(tuple(cam_mat[:, i]), world) for i in range(3))


def view_geoms(
    geom_pos: Float[Array, "G 3"],
    geom_mat: Float[Array, "G 3 3"],
    size: Float[Array, "G 3"],
    alpha: Float[Array, " G"],
    cam_pos: Float[Array, "3"],
    cam_mat: Float[Array, "3 3"],
) -> View:
    """Moves geoms from the world frame (metres) to the camera frame."""
    offset = tuple(geom_pos[:, k] - cam_pos[k] for k in range(3))
    axes = tuple(to_camera(cam_mat, tuple(geom_mat[:, k, j] for k in range(3))) for j in range(3))
    position = to_camera(cam_mat, offset)
    origin = tuple(-dot(axis, position) for axis in axes)
    return View(axes, position, origin, tuple(size[:, k] for k in range(3)), alpha > 0)
