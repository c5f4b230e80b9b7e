"""Normals of every surface, in a form that needs no geometry per pixel.

The part of a unit normal along a fixed direction is, on every primitive, linear in the hit point
t * d: zero slope on faces, and the gradient of the quadric over its known length elsewhere. So a
surface is four numbers per direction: slope (camera frame) and constant. Surface 4 * slot + i is
the i-th variant of that geom; box: axis, capsule: side, +z end, -z end, cylinder: side, cap.
Ellipsoids alone have a gradient of varying length; theirs is left to be normalised.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.envs.render.scene import VARIANTS, RenderScene
from loomax.envs.render.view import Vector, View, dot

# Slope (camera frame) and constant.
Row = tuple[Array, ...]


def _flat(value: Array) -> Row:
    zero = jnp.zeros_like(value)
    return zero, zero, zero, value


def _round(along: Vector, centre: Vector, radius: Array) -> Row:
    scale = 1 / jnp.maximum(radius, 1e-9)
    return *(a * scale for a in along), -dot(along, centre) * scale


def _plane(view: View, towards: Vector) -> list[Row]:
    return [_flat(dot(view.axes[2], towards))]


def _sphere(view: View, towards: Vector) -> list[Row]:
    along = tuple(jnp.broadcast_to(t, view.size[0].shape) for t in towards)
    return [_round(along, view.position, view.size[0])]


def _ellipsoid(view: View, towards: Vector) -> list[Row]:
    parts = [dot(axis, towards) for axis in view.axes]
    scale = [part / jnp.maximum(s, 1e-9) ** 2 for part, s in zip(parts, view.size, strict=True)]
    slope = tuple(dot(tuple(scale), tuple(a[i] for a in view.axes)) for i in range(3))
    return [(*slope, -dot(slope, view.position))]


def _tube(view: View, towards: Vector) -> Row:
    part = dot(view.axes[2], towards)
    along = tuple(t - part * a for t, a in zip(towards, view.axes[2], strict=True))
    return _round(along, view.position, view.size[0])


def _capsule(view: View, towards: Vector) -> list[Row]:
    rows = [_tube(view, towards)]
    for sign in (1, -1):
        centre = tuple(
            p + sign * view.size[1] * a for p, a in zip(view.position, view.axes[2], strict=True)
        )
        along = tuple(jnp.broadcast_to(t, view.size[0].shape) for t in towards)
        rows.append(_round(along, centre, view.size[0]))
    return rows


def _face(view: View, axis: int, towards: Vector) -> Row:
    facing = jnp.where(view.origin[axis] > 0, 1.0, -1.0)
    return _flat(facing * dot(view.axes[axis], towards))


def _cylinder(view: View, towards: Vector) -> list[Row]:
    return [_tube(view, towards), _face(view, 2, towards)]


def _box(view: View, towards: Vector) -> list[Row]:
    return [_face(view, axis, towards) for axis in range(3)]


_ROWS: dict[str, Callable[[View, Vector], list[Row]]] = {
    "plane": _plane,
    "sphere": _sphere,
    "ellipsoid": _ellipsoid,
    "capsule": _capsule,
    "cylinder": _cylinder,
    "box": _box,
}


def normal_rows(scene: RenderScene, view: View, towards: Vector) -> Float[Array, "4 S"]:
    """Slope and constant of normal . towards for all S = 4 G surfaces (unused variants are 0)."""
    parts = []
    for kind, run in scene.groups():
        rows = _ROWS[kind](view.part(run), towards)
        rows += [_flat(jnp.zeros_like(rows[0][0]))] * (VARIANTS - len(rows))
        parts.append(jnp.stack([jnp.stack(row) for row in rows], -1))
    return jnp.concatenate(parts, 1).reshape(4, -1)
