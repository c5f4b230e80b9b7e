"""Hard shadows: is there any geom between a hit point and the light at infinity?

All rays share one direction, so per geom the tests need only the hit point in its frame.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.envs.render.bands import in_bands
from loomax.envs.render.cast import Pixels
from loomax.envs.render.scene import RenderScene
from loomax.envs.render.terms import BIG
from loomax.envs.render.view import Vector, View, dot

# Hit points are moved towards the light by this much (metres) so that none shadows itself.
LIFT = 1e-3


def _slab(x: Array, d: Array, half: Array) -> tuple[Array, Array]:
    """Entry and exit along a ray that stays inside |x| <= half."""
    inverse = 1 / jnp.where(jnp.abs(d) < 1e-9, 1e-9, d)
    a, b = (-half - x) * inverse, (half - x) * inverse
    return jnp.minimum(a, b), jnp.maximum(a, b)


def _quadric(b: Array, c: Array, a: Array) -> tuple[Array, Array]:
    """Roots of a t^2 + 2 b t + c = 0; an empty interval when there are none."""
    root = jnp.sqrt(jnp.maximum(b * b - a * c, 0.0))
    miss = b * b < a * c
    inverse = 1 / jnp.maximum(a, 1e-12)
    return jnp.where(miss, BIG, (-b - root) * inverse), jnp.where(miss, -BIG, (root - b) * inverse)


def _box(x: Vector, d: Vector, size: Vector) -> Array:
    bounds = [_slab(x[i], d[i], size[i]) for i in range(3)]
    near = jnp.maximum(jnp.maximum(bounds[0][0], bounds[1][0]), bounds[2][0])
    far = jnp.minimum(jnp.minimum(bounds[0][1], bounds[1][1]), bounds[2][1])
    return (far >= near) & (far > 0)


def _ball(x: Vector, d: Vector, radius: Array) -> Array:
    near, far = _quadric(dot(x, d), dot(x, x) - radius * radius, dot(d, d))
    return (far >= near) & (far > 0)


def _sphere(x: Vector, d: Vector, size: Vector) -> Array:
    return _ball(x, d, size[0])


def _ellipsoid(x: Vector, d: Vector, size: Vector) -> Array:
    scale = [1 / jnp.maximum(s, 1e-9) for s in size]
    x, d = (tuple(a * s for a, s in zip(v, scale, strict=True)) for v in (x, d))
    return _ball(x, d, jnp.ones_like(size[0]))


def _cylinder(x: Vector, d: Vector, size: Vector) -> Array:
    flat = d[0] * d[0] + d[1] * d[1]
    c = x[0] * x[0] + x[1] * x[1] - size[0] * size[0]
    near, far = _quadric(x[0] * d[0] + x[1] * d[1], c, flat)
    low, high = _slab(x[2], d[2], size[1])
    near, far = jnp.maximum(near, low), jnp.minimum(far, high)
    return (far >= near) & (far > 0)


def _capsule(x: Vector, d: Vector, size: Vector) -> Array:
    ends = [_ball((x[0], x[1], x[2] - s * size[1]), d, size[0]) for s in (1, -1)]
    return _cylinder(x, d, size) | ends[0] | ends[1]


_BLOCKS: dict[str, Callable[[Vector, Vector, Vector], Array]] = {
    "box": _box,
    "sphere": _sphere,
    "ellipsoid": _ellipsoid,
    "cylinder": _cylinder,
    "capsule": _capsule,
}


def lit(
    scene: RenderScene,
    view: View,
    light: Vector,
    pixels: Pixels,
    depth: Float[Array, " P"],
) -> Float[Array, " P"]:
    """1 where the light reaches the hit point, 0 in shadow. Planes cast none (they bound scenes).

    `light` is the unit vector to the light in the camera frame. Points are moved along it, so a
    lit side never shadows itself; sides that face away from the light are dark anyway.
    """

    def band(pixels: Pixels, depth: Array) -> Array:
        rays = (pixels.u, pixels.v, -jnp.ones_like(pixels.u))
        point = tuple(depth * ray + LIFT * step for ray, step in zip(rays, light, strict=True))
        blocked = jnp.zeros(depth.shape, bool)
        for slot, kind in enumerate(scene.kinds):
            if kind == "plane":
                continue
            one = jax.tree.map(lambda leaf: leaf[slot], view)  # noqa: B023 (used at once)
            local = tuple(dot(a, point) + o for a, o in zip(one.axes, one.origin, strict=True))
            direction = tuple(dot(axis, light) for axis in one.axes)
            blocked |= _BLOCKS[kind](local, direction, one.size) & one.seen
        return 1.0 - blocked

    return in_bands(band, pixels, depth)
