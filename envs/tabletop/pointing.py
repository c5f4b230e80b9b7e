"""Where named things appear in the images: labels for teaching a policy to point."""

import math

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from loomax.envs.physics.state import Poses
from loomax.envs.render import RenderScene


@struct.dataclass
class Pointing:
    """Image positions of things, x to the right and y down, the image being [-1, 1]^2.

    `seen` is False for what lies outside the image or behind the camera.
    """

    xy: Float[Array, "*B T 2"]
    seen: Bool[Array, "*B T"]


def project(scene: RenderScene, poses: Poses, things: Float[Array, "T 3"]) -> Pointing:
    """Projects world positions into a camera (occlusion is not considered)."""
    frame, eye = poses.cam_mat[scene.camera], poses.cam_pos[scene.camera]
    local = (things - eye) @ frame
    depth = -local[:, 2]
    half = math.tan(math.radians(scene.fovy) / 2)
    scale = jnp.array([half * scene.width / scene.height, -half])
    xy = local[:, :2] / (jnp.maximum(depth, 1e-3)[:, None] * scale)
    seen = (depth > 0) & (jnp.abs(xy).max(-1) < 1.0)
    return Pointing(xy, seen)
