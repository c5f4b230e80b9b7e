"""`render` draws one frame with everything in it; `render_rgb` only the colours, much faster."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from loomax.envs.render.cast import Pixels, nearest, pixel_rays, ray_terms, unpack
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
from loomax.envs.render.view import View, to_camera, view_geoms


class Frame(NamedTuple):
    """What one camera sees.

    rgb u8. depth: metres along the optical axis, `scene.far` on the background. segmentation:
    MuJoCo geom id, -1 on the background. normals: unit, world frame, 0 on the background.
    """

    rgb: UInt8[Array, "H W 3"]
    depth: Float[Array, "H W"]
    segmentation: Int[Array, "H W"]
    normals: Float[Array, "H W 3"]


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
    """
    fetch = fetch or default_fetch()
    view, colour = _setup(scene, geom_pos, geom_mat, rgba, cam_pos, cam_mat, size)
    pixels, terms = pixel_rays(scene), ray_terms(scene, view)
    _, surface = unpack(nearest(scene, terms, pixels, scene.id_bits), scene.id_bits)
    depth, _ = unpack(nearest(scene, terms, pixels, 0), 0)
    hit = surface < VARIANTS * len(scene.slots)
    normals = _normals(scene, view, pixels, depth, surface, fetch)
    normals = to_camera(cam_mat.T, normals)
    facing = sum(n * axis for n, axis in zip(normals, light_direction(scene), strict=True))
    if shadow:
        facing *= lit(scene, view, cam_mat, pixels, depth, normals)
    rgb = fetch_columns(colour, surface, fetch)
    rgb = _finish(scene, view, cam_mat, pixels, depth, surface, facing, rgb)
    ids = jnp.asarray(np.append(np.repeat(scene.slots, VARIANTS), -1).astype(np.int32))
    shape = (scene.height, scene.width)
    return Frame(
        rgb=rgb,
        depth=depth.reshape(shape),
        segmentation=ids[surface].reshape(shape),
        normals=jnp.where(hit, jnp.stack(normals), 0.0).T.reshape(*shape, 3),
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
    fetch: Fetch | None = None,
) -> UInt8[Array, "H W 3"]:
    """The colours of `render` without shadows. Use `lax.map` over frames on a CPU, not `vmap`."""
    fetch = fetch or default_fetch()
    view, colour = _setup(scene, geom_pos, geom_mat, rgba, cam_pos, cam_mat, size)
    pixels, terms = pixel_rays(scene), ray_terms(scene, view)
    depth, surface = unpack(nearest(scene, terms, pixels, scene.id_bits), scene.id_bits)
    if "ellipsoid" in scene.kinds:
        light = to_camera(cam_mat, light_direction(scene))
        normals = _normals(scene, view, pixels, depth, surface, fetch)
        facing = sum(n * axis for n, axis in zip(normals, light, strict=True))
        rgb = fetch_columns(colour, surface, fetch)
    else:
        light = to_camera(cam_mat, light_direction(scene))
        slope = jnp.pad(normal_rows(scene, view, light), ((0, 0), (0, 1)))
        x, y, z, constant, *rgb = fetch_columns(jnp.concatenate([slope, colour]), surface, fetch)
        facing = depth * (x * pixels.u + y * pixels.v - z) + constant
    return _finish(scene, view, cam_mat, pixels, depth, surface, facing, rgb)


def _setup(scene, geom_pos, geom_mat, rgba, cam_pos, cam_mat, size) -> tuple[View, Array]:
    if geom_pos.shape != (scene.geoms, 3):
        raise ValueError(
            f"geom_pos is {geom_pos.shape}; the scene's model needs {(scene.geoms, 3)}"
        )
    slots = np.asarray(scene.slots)
    size = jnp.asarray(scene.size) if size is None else size[slots]
    rgba = jnp.asarray(scene.rgba) if rgba is None else rgba[slots]
    view = view_geoms(geom_pos[slots], geom_mat[slots], size, rgba[:, 3], cam_pos, cam_mat)
    return view, surface_colours(rgba[:, :3])


def _normals(scene, view: View, pixels: Pixels, depth, surface, fetch: Fetch):
    rows = [normal_rows(scene, view, axis) for axis in ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))]
    table = jnp.pad(jnp.concatenate(rows), ((0, 0), (0, 1)))
    k = fetch_columns(table, surface, fetch)
    normal = [
        depth * (k[i] * pixels.u + k[i + 1] * pixels.v - k[i + 2]) + k[i + 3] for i in (0, 4, 8)
    ]
    length = jnp.sqrt(sum(n * n for n in normal))
    return tuple(n / jnp.maximum(length, 1e-9) for n in normal)


def _finish(scene, view: View, cam_mat, pixels: Pixels, depth, surface, facing, rgb):
    rgb = paint_checkers(scene, view, pixels, depth, surface, rgb)
    light = scene.lighting
    shade = light.ambient + light.diffuse * jnp.clip(facing, 0.0, 1.0)
    background = sky(scene, to_camera(cam_mat, (0.0, 0.0, 1.0)), pixels)
    hit = surface < VARIANTS * len(scene.slots)
    rgb = [jnp.where(hit, x * shade, far) for x, far in zip(rgb, background, strict=True)]
    return to_bytes(rgb, scene)
