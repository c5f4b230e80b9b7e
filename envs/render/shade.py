"""From keys to colours: one pass over the pixels that fetches what the winning surface needs."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from loomax.envs.render.cast import Pixels
from loomax.envs.render.scene import VARIANTS, RenderScene
from loomax.envs.render.view import Vector, View
from loomax.runtime.compile import target_platform

# "gather" or "onehot"
Fetch = str


def default_fetch() -> Fetch:
    """Gathers are cheap on CPU and GPU; a TPU reads a table faster as a matrix product."""
    return "onehot" if target_platform() == "tpu" else "gather"


def fetch_columns(
    table: Float[Array, "C S"], index: Int[Array, " P"], fetch: Fetch
) -> list[Float[Array, " P"]]:
    """Column `index` of the table for every pixel, one array a row; indices must be in range."""
    if fetch == "gather":
        return [row.at[index].get(mode="promise_in_bounds") for row in table]
    if fetch == "onehot":
        hot = (index == jnp.arange(table.shape[1])[:, None]).astype(table.dtype)
        out = jnp.matmul(table, hot, precision=lax.Precision.HIGHEST)
        return [out[row] for row in range(table.shape[0])]
    raise ValueError(f"fetch={fetch!r}; pass 'gather' or 'onehot'")


def light_direction(scene: RenderScene) -> Vector:
    """Unit vector to the light in the world frame."""
    direction = np.asarray(scene.lighting.direction, np.float32)
    return tuple(jnp.float32(x) for x in direction / np.linalg.norm(direction))


def surface_colours(rgb: Float[Array, "G 3"]) -> Float[Array, "3 S"]:
    """Colour of every surface and, last, a black one for the background."""
    return jnp.pad(jnp.repeat(rgb.T, VARIANTS, axis=1), ((0, 0), (0, 1)))


def sky(scene: RenderScene, up: Vector, pixels: Pixels) -> list[Float[Array, " P"]]:
    """Background gradient along the world's vertical; `up` is that in the camera frame."""
    light = scene.lighting
    height = jnp.clip(0.5 + up[0] * pixels.u + up[1] * pixels.v - up[2], 0.0, 1.0)
    return [
        low + (high - low) * height for low, high in zip(light.sky_low, light.sky_high, strict=True)
    ]


def paint_checkers(
    scene: RenderScene,
    view: View,
    pixels: Pixels,
    depth: Float[Array, " P"],
    surface: Int[Array, " P"],
    rgb: list[Float[Array, " P"]],
) -> list[Float[Array, " P"]]:
    """Replaces the colour of odd cells on the geoms that have a checker pattern."""
    for slot, mark in scene.checkers:
        cells = []
        for axis in range(2):
            a = [view.axes[axis][i][slot] for i in range(3)]
            local = view.origin[axis][slot] + depth * (a[0] * pixels.u + a[1] * pixels.v - a[2])
            cells.append(jnp.floor(local * (1 / mark.cell)).astype(jnp.int32))
        odd = ((cells[0] + cells[1]) & 1 == 1) & (surface // VARIANTS == slot)
        rgb = [jnp.where(odd, other, own) for own, other in zip(rgb, mark.rgb, strict=True)]
    return rgb


def to_bytes(rgb: list[Float[Array, " P"]], scene: RenderScene) -> UInt8[Array, "H W 3"]:
    """Colours in [0, 1] as bytes, by way of one integer a pixel: interleaving bytes is slow."""
    r, g, b = ((jnp.clip(x, 0.0, 1.0) * 255 + 0.5).astype(jnp.int32) for x in rgb)
    pixel = lax.bitcast_convert_type(r | (g << 8) | (b << 16), jnp.uint8)
    return pixel[:, :3].reshape(scene.height, scene.width, 3)
