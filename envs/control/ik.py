"""Inverse kinematics by damped least squares with a null-space pull to the home joints.

Each step minimises |J dq - e|^2 + damping |dq - dq0|^2, where dq0 moves towards home (Nakamura and
Hanafusa 1986; Wampler 1986).
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from loomax.envs.control.config import ControlConfig
from loomax.envs.control.kinematics import down_frame, forward, jacobian
from loomax.envs.control.solve import solve_spd
from loomax.envs.scene.panda import HOME, LOWER, UPPER


def pose_error(pose: Any, position: Any, yaw: Any, xp: Any = jnp) -> Any:
    """Distance to a downward pose as [..., 6]: metres, then a rotation vector (small angles)."""
    wanted = down_frame(yaw, xp)
    turn = 0.5 * xp.sum(xp.cross(pose.frame, wanted), axis=-2)
    return xp.concatenate([position - pose.tcp, turn], axis=-1)


def ik_step(config: ControlConfig, q: Any, position: Any, yaw: Any, xp: Any = jnp) -> Any:
    """One damped step of q[..., 7] towards a downward tool pose, within the joint limits."""
    pose = forward(q, xp)
    rows = jacobian(pose, xp)
    pull = config.home_pull * (xp.asarray(HOME, dtype=q.dtype) - q)
    error = pose_error(pose, position, yaw, xp)
    remaining = error - xp.einsum("...ji,...j->...i", rows, pull)
    gram = xp.einsum("...ji,...jk->...ik", rows, rows)
    gram = gram + config.damping * xp.eye(6, dtype=q.dtype)
    step = pull + xp.einsum("...ji,...i->...j", rows, solve_spd(gram, remaining, xp))
    step = xp.clip(step, -config.max_joint_step, config.max_joint_step)
    return xp.clip(q + step, xp.asarray(LOWER, dtype=q.dtype), xp.asarray(UPPER, dtype=q.dtype))


def solve_poses(
    config: ControlConfig, position: np.ndarray, yaw: np.ndarray, steps: int = 60
) -> np.ndarray:
    """Joint angles f64[N, 7] of N downward poses, from home, in NumPy.

    Args:
        position: [N, 3] tool positions in metres.
        yaw: [N] radians.

    Raises:
        ValueError: a pose that the arm cannot reach to a tenth of a millimetre.
    """
    q = np.tile(np.asarray(HOME, np.float64), (len(position), 1))
    for _ in range(steps):
        q = ik_step(config, q, position, yaw, np)
    # Damping and the home pull leave a small offset; a few undamped steps remove it.
    exact = ControlConfig(damping=1e-9, home_pull=0.0)
    for _ in range(5):
        q = ik_step(exact, q, position, yaw, np)
    worst = np.abs(pose_error(forward(q, np), position, yaw, np)).max()
    if not worst < 1e-4:
        raise ValueError(f"pose error {worst:.4g}: must be below 1e-4; move the poses into reach")
    return q
