"""Forward kinematics and geometric Jacobian of the arm.

Every function takes `xp`, the array module (jax.numpy or numpy), and any leading axes.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from loomax.envs.scene.panda import ALPHA, FLANGE, HAND_YAW, TCP, A, D


class ArmPose(NamedTuple):
    """Poses in the base frame (metres).

    Attributes:
        origins: [..., 7, 3] points on the joint axes.
        axes: [..., 7, 3] unit joint axes.
        tcp: [..., 3] tool centre point, between the finger pads.
        frame: [..., 3, 3] the tool's x, y, z axes as ROWS; fingers move along y, z points out.
    """

    origins: Any
    axes: Any
    tcp: Any
    frame: Any


def forward(q: Any, xp: Any = jnp) -> ArmPose:
    """Poses for joint angles q[..., 7]."""
    unit = xp.eye(3, dtype=q.dtype)
    x, y, z = (xp.broadcast_to(unit[i], (*q.shape[:-1], 3)) for i in range(3))
    point = xp.zeros((*q.shape[:-1], 3), q.dtype)
    cos, sin = xp.cos(q), xp.sin(q)
    origins, axes = [], []
    for i in range(7):
        ca, sa = round(math.cos(ALPHA[i]), 9), round(math.sin(ALPHA[i]), 9)
        point = point + A[i] * x
        y, z = ca * y + sa * z, ca * z - sa * y
        point = point + D[i] * z
        c, s = cos[..., i : i + 1], sin[..., i : i + 1]
        x, y = c * x + s * y, c * y - s * x
        origins.append(point)
        axes.append(z)
    c, s = math.cos(HAND_YAW), math.sin(HAND_YAW)
    frame = xp.stack([c * x + s * y, c * y - s * x, z], axis=-2)
    return ArmPose(
        xp.stack(origins, axis=-2), xp.stack(axes, axis=-2), point + (FLANGE + TCP) * z, frame
    )


def jacobian(pose: ArmPose, xp: Any = jnp) -> Any:
    """Columns of the geometric Jacobian as rows: [..., 7, 6], linear then angular velocity."""
    arm = pose.tcp[..., None, :] - pose.origins
    return xp.concatenate([xp.cross(pose.axes, arm), pose.axes], axis=-1)


def yaw_of(pose: ArmPose, xp: Any = jnp) -> Any:
    """Rotation of the tool's x axis about the vertical, [...]."""
    return xp.arctan2(pose.frame[..., 0, 1], pose.frame[..., 0, 0])


def down_frame(yaw: Any, xp: Any = jnp) -> Any:
    """Tool axes (rows) that point straight down at a yaw[...]: [..., 3, 3]."""
    c, s, zero = xp.cos(yaw), xp.sin(yaw), xp.zeros_like(yaw)
    rows = [
        xp.stack([c, s, zero], -1),
        xp.stack([s, -c, zero], -1),
        xp.stack([zero, zero, zero - 1], -1),
    ]
    return xp.stack(rows, axis=-2)
