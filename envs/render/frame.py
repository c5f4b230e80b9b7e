"""`render` draws one frame with everything in it; `render_rgb` only the colours, much faster."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from loomax.envs.render.bands import in_bands
from loomax.envs.render.cast import Pixels, Terms, nearest, pixel_rays, ray_terms, unpack
from loomax.envs.render.scene import VARIANTS, RenderScene
from loomax.envs.render.shade import (
    Fetch,
    default_fetch,
    fetch_columns,
    light_direction,
    paint_checkers,
    sky,
    surface_colours,
    to_bytes,
)
from loomax.envs.render.shadow import lit
from loomax.envs.render.surfaces import normal_rows
from loomax.envs.render.view import Vector, View, dot, to_camera, view_geoms


class Frame(NamedTuple):
    """What one camera sees.

    rgb u8. depth: metres along the optical axis, `scene.far` on the background. segmentation:
    MuJoCo geom id, -1 on the background. normals: unit, world frame, 0 on the background.
    """

    rgb: UInt8[Array, "H W 3"]
    depth: Float[Array, "H W"]
    segmentation: Int[Array, "H W"]
    normals: Float[Array, "H W 3"]


class _Shot(NamedTuple):
    """Everything of a frame that is not per pixel; `light` and `up` are in the camera frame."""

    view: View
    terms: list[Terms]
    colour: Float[Array, "3 S"]
    light: Vector
    up: Vector
    pixels: Pixels


def render(
    scene: RenderScene,
    geom_pos: Float[Array, "G 3"],
    geom_mat: Float[Array, "G 3 3"],
    rgba: Float[Array, "G 4"] | None,
    cam_pos: Float[Array, "3"],
    cam_mat: Float[Array, "3 3"],
    *,
    size: Float[Array, "G 3"] | None = None,
    shadow: bool = False,
    fetch: Fetch | None = None,
) -> Frame:
    """Draws the scene as its camera sees it. G is every geom of the model, drawn or not.

    `rgba` and `size` replace the model's own. Geoms of alpha 0 are left out, all others are opaque.
    `cam_pos`, `cam_mat` are the camera's (z points backwards), as in `mjData.cam_xpos`, `cam_xmat`.
    Raises ValueError when the poses are not those of the scene's model.
    """
    fetch = fetch or default_fetch()
    shot = _set_up(scene, geom_pos, geom_mat, rgba, cam_pos, cam_mat, size)
    bits = scene.id_bits
    key, exact = in_bands(
        lambda pixels: tuple(nearest(scene, shot.terms, pixels, b) for b in (bits, 0)), shot.pixels
    )
    (coarse, surface), (depth, _) = unpack(key, bits), unpack(exact, 0)
    normals = _normals(scene, shot, depth, surface, fetch)
    facing = dot(normals, shot.light)
    if shadow:
        facing *= lit(scene, shot.view, shot.light, shot.pixels, coarse)
    rgb = fetch_columns(shot.colour, surface, fetch)
    hit = surface < VARIANTS * len(scene.slots)
    normals = jnp.where(hit, jnp.stack(to_camera(cam_mat.T, normals)), 0.0)
    ids = jnp.asarray(np.append(np.repeat(scene.slots, VARIANTS), -1).astype(np.int32))
    shape = (scene.height, scene.width)
    return Frame(
        rgb=_colour(scene, shot, coarse, surface, facing, rgb),
        depth=depth.reshape(shape),
        segmentation=ids[surface].reshape(shape),
        normals=normals.T.reshape(*shape, 3),
    )


def render_rgb(
    scene: RenderScene,
    geom_pos: Float[Array, "G 3"],
    geom_mat: Float[Array, "G 3 3"],
    rgba: Float[Array, "G 4"] | None,
    cam_pos: Float[Array, "3"],
    cam_mat: Float[Array, "3 3"],
    *,
    size: Float[Array, "G 3"] | None = None,
    shadow: bool = False,
    fetch: Fetch | None = None,
) -> UInt8[Array, "H W 3"]:
    """The colours of `render` (to one part in 255), several times faster; same arguments."""
    fetch = fetch or default_fetch()
    shot = _set_up(scene, geom_pos, geom_mat, rgba, cam_pos, cam_mat, size)
    bits = scene.id_bits
    key = in_bands(lambda pixels: nearest(scene, shot.terms, pixels, bits), shot.pixels)
    depth, surface = unpack(key, bits)
    if "ellipsoid" in scene.kinds:
        facing = dot(_normals(scene, shot, depth, surface, fetch), shot.light)
        rgb = fetch_columns(shot.colour, surface, fetch)
    else:
        rows = _with_background(normal_rows(scene, shot.view, shot.light))
        row = fetch_columns(jnp.concatenate([rows, shot.colour]), surface, fetch)
        facing, rgb = _along_ray(row, shot.pixels, depth), row[4:]
    if shadow:
        facing *= lit(scene, shot.view, shot.light, shot.pixels, depth)
    return _colour(scene, shot, depth, surface, facing, rgb)


def _set_up(scene, geom_pos, geom_mat, rgba, cam_pos, cam_mat, size) -> _Shot:
    given = {"geom_pos": (geom_pos, (3,)), "geom_mat": (geom_mat, (3, 3))}
    given |= {"rgba": (rgba, (4,)), "size": (size, (3,))}
    for name, (array, shape) in given.items():
        if array is not None and array.shape != (scene.geoms, *shape):
            expected = (scene.geoms, *shape)
            raise ValueError(f"{name} is {array.shape}; the scene's model needs {expected}")
    slots = np.asarray(scene.slots)
    size = jnp.asarray(scene.size) if size is None else size[slots]
    rgba = jnp.asarray(scene.rgba) if rgba is None else rgba[slots]
    view = view_geoms(geom_pos[slots], geom_mat[slots], size, rgba[:, 3], cam_pos, cam_mat)
    return _Shot(
        view=view,
        terms=ray_terms(scene, view),
        colour=surface_colours(rgba[:, :3]),
        light=to_camera(cam_mat, light_direction(scene)),
        up=to_camera(cam_mat, _axis(2)),
        pixels=pixel_rays(scene),
    )


def _axis(i: int) -> Vector:
    return tuple(jnp.float32(i == j) for j in range(3))


def _with_background(rows: Float[Array, "C S"]) -> Float[Array, "C S+1"]:
    return jnp.pad(rows, ((0, 0), (0, 1)))


def _along_ray(row: list[Array], pixels: Pixels, depth: Float[Array, " P"]) -> Float[Array, " P"]:
    """Slope . hit point + constant."""
    return depth * (row[0] * pixels.u + row[1] * pixels.v - row[2]) + row[3]


def _normals(scene: RenderScene, shot: _Shot, depth, surface, fetch: Fetch) -> Vector:
    """Unit normals of the hit points in the camera frame; 0 on the background."""
    table = jnp.concatenate([normal_rows(scene, shot.view, _axis(i)) for i in range(3)])

    def band(pixels, depth, surface):
        row = fetch_columns(_with_background(table), surface, fetch)
        normal = [_along_ray(row[at : at + 4], pixels, depth) for at in (0, 4, 8)]
        length = jnp.sqrt(dot(tuple(normal), tuple(normal)))
        return tuple(n / jnp.maximum(length, 1e-9) for n in normal)

    return in_bands(band, shot.pixels, depth, surface)


def _colour(scene: RenderScene, shot: _Shot, depth, surface, facing, rgb) -> Array:
    rgb = paint_checkers(scene, shot.view, shot.pixels, depth, surface, rgb)
    light = scene.lighting
    shade = light.ambient + light.diffuse * jnp.clip(facing, 0.0, 1.0)
    background = sky(scene, shot.up, shot.pixels)
    hit = surface < VARIANTS * len(scene.slots)
    rgb = [jnp.where(hit, x * shade, far) for x, far in zip(rgb, background, strict=True)]
    return to_bytes(rgb, scene)
