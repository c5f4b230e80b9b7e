"""From a 7-D action to joint targets for each physics substep."""

from typing import no_type_check

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from loomax.envs.control.config import ControlConfig
from loomax.envs.control.ik import ik_step
from loomax.envs.scene.panda import FINGER_TRAVEL


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class ControlState:
    """Targets that the actions move.

    Attributes:
        position: f32[3] target of the tool centre point in metres.
        yaw: f32[] target yaw in radians.
        joints: f32[7] joint targets.
        grip: f32[] commanded gripper, 1 closed, -1 open.
    """

    position: Float[Array, "3"]
    yaw: Float[Array, ""]
    joints: Float[Array, "7"]
    grip: Float[Array, ""]


def move_target(
    config: ControlConfig, control: ControlState, action: Float[Array, "7"]
) -> ControlState:
    """Integrates an action into the target pose; joints follow by a few IK steps.

    action[0:3] moves the target along world x, y, z, action[5] turns it, action[3] and action[4]
    (roll, pitch) are ignored, action[6] >= 0 closes the gripper and action[6] < 0 opens it.
    """
    action = jnp.clip(action, -1.0, 1.0)
    position = jnp.clip(
        control.position + config.position_scale * action[:3],
        jnp.asarray(config.low),
        jnp.asarray(config.high),
    )
    yaw = control.yaw + config.rotation_scale * action[5]
    yaw = jnp.clip(yaw, -config.yaw_limit, config.yaw_limit)
    joints = control.joints
    for _ in range(config.ik_steps):
        joints = ik_step(config, joints, position, yaw)
    grip = jnp.where(action[6] >= 0.0, jnp.float32(1.0), jnp.float32(-1.0))
    return ControlState(position, yaw, joints, grip)


def servo_targets(before: ControlState, after: ControlState, substeps: int) -> Float[Array, "S 9"]:
    """Servo commands per substep: joints go linearly to their target, fingers at once."""
    share = jnp.arange(1, substeps + 1, dtype=jnp.float32)[:, None] / substeps
    joints = before.joints + share * (after.joints - before.joints)
    finger = jnp.where(after.grip > 0.0, 0.0, FINGER_TRAVEL)
    return jnp.concatenate([joints, jnp.broadcast_to(finger, (substeps, 2))], axis=-1)
