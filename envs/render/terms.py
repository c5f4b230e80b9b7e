"""What a ray-geom test needs to know about a geom, worked out once a frame.

A ray is (u, v, -1) * t in the camera frame and t is its depth. All tests are written for the
inverse depth w = 1 / t, in which the equation of a plane n.x = k, seen from the origin, is linear
in the pixel: w = (n.d) / k. So a face costs two multiply-adds and no division, and a quadric
a t^2 + 2 b t + c = 0 becomes w = B + sqrt(B^2 - a / c) with B = -b / c linear in the pixel too.
Each function returns a [K, G] table that `cast.py` reads in the same order.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.envs.render.view import Vector, View, dot

# Stands for "no bound". Squares must stay finite in float32.
BIG = 1e9
TINY = 1e-12


def _pixel_row(direction: Vector, scale: Array | float = 1.0) -> list[Array]:
    """direction . (u, v, -1) as coefficients of u, v and 1."""
    return [direction[0] * scale, direction[1] * scale, -direction[2] * scale]


def _away_from_zero(x: Array) -> Array:
    return jnp.where(jnp.abs(x) < TINY, jnp.where(x < 0, -TINY, TINY), x)


def _slab(origin: Array, half: Array) -> tuple[Array, Array, Array, Array]:
    """Bounds on w inside |x| <= half along one axis, as factors of d_x.

    Returns near factor, near offset, and two factors of which the larger product bounds w below.
    """
    above = 1 / _away_from_zero(half - origin)
    below = -1 / _away_from_zero(half + origin)
    outside = jnp.abs(origin) > half
    near = jnp.where(outside, jnp.where(origin > 0, above, below), 0.0)
    offset = jnp.where(outside, 0.0, BIG)
    return (
        near,
        offset,
        jnp.where(origin > half, below, above),
        jnp.where(-origin > half, above, below),
    )


def plane(view: View) -> Float[Array, "K G"]:
    """Front side only. Rows: w (3), then for each in-plane axis: d (3), origin, half size."""
    height = view.origin[2]
    drawn = view.seen & (height > 0)
    scale = jnp.where(drawn, -1 / _away_from_zero(height), 0.0)
    rows = _pixel_row(view.axes[2], scale)
    for axis in range(2):
        half = jnp.where(view.size[axis] > 0, view.size[axis], BIG)
        rows += [*_pixel_row(view.axes[axis]), view.origin[axis], half]
    return jnp.stack(rows)


def _ball(centre: Vector, radius: Array, seen: Array) -> tuple[Array, Array]:
    """1 / c for a ball at `centre` (camera frame), and whether it can be seen from outside."""
    c = dot(centre, centre) - radius * radius
    outside = seen & (c > 0)
    return jnp.where(outside, 1 / _away_from_zero(c), 0.0), outside


def sphere(view: View) -> Float[Array, "K G"]:
    """Rows: B (3), 1 / c."""
    inverse, outside = _ball(view.position, view.size[0], view.seen)
    return jnp.stack([*_pixel_row(view.position, inverse), jnp.where(outside, inverse, BIG)])


def ellipsoid(view: View) -> Float[Array, "K G"]:
    """Rows: B (3), then B^2 - a / c as coefficients of uu, uv, vv, u, v, 1."""
    scaled = tuple(o / _away_from_zero(s) for o, s in zip(view.origin, view.size, strict=True))
    c = dot(scaled, scaled) - 1
    outside = view.seen & (c > 0)
    inverse = jnp.where(outside, 1 / _away_from_zero(c), 0.0)
    local = [
        _pixel_row(axis, 1 / _away_from_zero(s))
        for axis, s in zip(view.axes, view.size, strict=True)
    ]
    b = [-inverse * dot(scaled, tuple(row[k] for row in local)) for k in range(3)]
    form = []
    for i, j in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)):
        a = sum(row[i] * row[j] for row in local)
        form.append((b[i] * b[j] - a * inverse) * (1 if i == j else 2))
    form[-1] = jnp.where(outside, form[-1], -BIG)
    return jnp.stack([*b, *form])


def _tube(view: View) -> tuple[list[Array], Array, Array]:
    """The endless cylinder around local z: B (3), 1 / c, and whether the camera is outside it."""
    x, y, _ = view.origin
    c = x * x + y * y - view.size[0] * view.size[0]
    inverse = 1 / _away_from_zero(c)
    radial = tuple(-inverse * (x * view.axes[0][i] + y * view.axes[1][i]) for i in range(3))
    return _pixel_row(radial), inverse, c > 0


def capsule(view: View) -> Float[Array, "K G"]:
    """Rows: B (3), d_z (3), 1 / c, height: factor, half, middle, then B and 1 / c of each end.

    The end that a ray can meet is the one on the side where the ray enters the endless cylinder,
    or the camera's own side when the camera is inside that. Its B is p0 * B + p1 * d_z.
    """
    tube, inverse, outside = _tube(view)
    z, half, c = view.origin[2], view.size[1], 1 / inverse
    inside = jnp.hypot(jnp.hypot(view.origin[0], view.origin[1]), jnp.maximum(jnp.abs(z) - half, 0))
    seen = view.seen & (inside > view.size[0])
    rows = [*tube, *_pixel_row(view.axes[2]), inverse]
    rows += [
        jnp.where(outside, z, 0.0),
        jnp.where(seen & outside, half, -BIG),
        jnp.where(outside, 0.0, jnp.where(z > 0, -BIG, BIG)),
    ]
    for sign in (1, -1):
        # The ray's b about the end is -(B c) + (z - end) d_z.
        end = z - sign * half
        inverse_end = 1 / _away_from_zero(c + end * end)
        rows += [c * inverse_end, -end * inverse_end, jnp.where(seen, inverse_end, BIG)]
    return jnp.stack(rows)


def cylinder(view: View) -> Float[Array, "K G"]:
    """Rows: B (3), d_z (3), 1 / c, side offset, far sign, then near, offset and far of the caps."""
    tube, inverse, outside = _tube(view)
    near, offset, far_a, far_b = _slab(view.origin[2], view.size[1])
    offset = jnp.where(view.seen, offset, -BIG)
    side = [jnp.where(outside, 0.0, BIG), jnp.where(outside, -1.0, 1.0)]
    return jnp.stack([*tube, *_pixel_row(view.axes[2]), inverse, *side, near, offset, far_a, far_b])


def box(view: View) -> Float[Array, "K G"]:
    """For each axis: d (3), near factor and offset, two far factors."""
    rows = []
    for axis in range(3):
        near, offset, far_a, far_b = _slab(view.origin[axis], view.size[axis])
        rows += [
            *_pixel_row(view.axes[axis]),
            near,
            jnp.where(view.seen, offset, -BIG),
            far_a,
            far_b,
        ]
    return jnp.stack(rows)


TERMS = {
    "plane": plane,
    "sphere": sphere,
    "ellipsoid": ellipsoid,
    "capsule": capsule,
    "cylinder": cylinder,
    "box": box,
}
