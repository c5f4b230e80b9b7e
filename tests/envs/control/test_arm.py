"""What each dimension of an action does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.envs.control.arm import ControlState, move_target, servo_targets
from loomax.envs.control.config import ControlConfig
from loomax.envs.control.ik import solve_poses
from loomax.envs.control.kinematics import forward
from loomax.envs.scene.panda import FINGER_TRAVEL

CONFIG = ControlConfig()
START = (0.5, 0.0, 0.2)
MOVE = jax.jit(lambda control, action: move_target(CONFIG, control, action))


@pytest.fixture(scope="module")
def control() -> ControlState:
    joints = solve_poses(CONFIG, np.array([START]), np.zeros(1))[0]
    return ControlState(
        jnp.array(START), jnp.float32(0.0), jnp.asarray(joints, jnp.float32), jnp.float32(-1.0)
    )


def action(**dims) -> jax.Array:
    names = ("x", "y", "z", "roll", "pitch", "yaw", "grip")
    return jnp.array([dims.get(name, 0.0) for name in names], jnp.float32)


def test_translation_is_five_centimetres_a_unit(control):
    moved = MOVE(control, action(x=1.0, y=-0.5, z=0.25))
    np.testing.assert_allclose(moved.position, [0.55, -0.025, 0.2125], atol=1e-6)
    np.testing.assert_allclose(forward(moved.joints).tcp, moved.position, atol=3e-3)


def test_actions_are_clipped(control):
    twice = MOVE(control, action(x=2.0, yaw=-9.0))
    once = MOVE(control, action(x=1.0, yaw=-1.0))
    np.testing.assert_array_equal(twice.position, once.position)
    assert float(twice.yaw) == float(once.yaw) == -0.5


def test_roll_and_pitch_do_nothing(control):
    tilted = MOVE(control, action(roll=1.0, pitch=-1.0))
    jax.tree.map(np.testing.assert_array_equal, tilted, MOVE(control, action()))


def test_yaw_stops_at_its_limit(control):
    for _ in range(4):
        control = MOVE(control, action(yaw=1.0))
    assert float(control.yaw) == pytest.approx(CONFIG.yaw_limit)


def test_the_target_stays_in_its_box(control):
    for push, bound in ((-1.0, CONFIG.low), (1.0, CONFIG.high)):
        pushed = control
        for _ in range(12):
            pushed = MOVE(pushed, action(x=push, y=push, z=push))
        np.testing.assert_allclose(pushed.position, bound, atol=1e-6)


@pytest.mark.parametrize(
    ("grip", "command", "finger"),
    [(1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (-1e-6, -1.0, FINGER_TRAVEL), (-1.0, -1.0, FINGER_TRAVEL)],
)
def test_gripper_closes_from_zero_up(control, grip, command, finger):
    after = MOVE(control, action(grip=grip))
    assert float(after.grip) == command
    np.testing.assert_allclose(servo_targets(control, after, 5)[:, 7:], finger)


def test_joint_commands_run_linearly_to_the_target(control):
    after = control.replace(joints=control.joints + 1.0)
    commands = servo_targets(control, after, 4)
    shares = (commands[:, :7] - control.joints) / (after.joints - control.joints)
    np.testing.assert_allclose(
        shares, np.tile(np.array([[0.25], [0.5], [0.75], [1.0]]), (1, 7)), atol=1e-5
    )
