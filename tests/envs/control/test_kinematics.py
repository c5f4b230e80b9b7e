"""Forward kinematics and Jacobian against MuJoCo and finite differences."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.control.kinematics import down_frame, forward, jacobian, yaw_of
from loomax.envs.scene.panda import HOME, LOWER, TCP, UPPER
from loomax.envs.scene.table import TableScene, build


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build(TableScene(cubes=1))


@pytest.fixture(scope="module")
def joints() -> np.ndarray:
    return np.random.default_rng(0).uniform(LOWER, UPPER, (20, 7))


def posed(model: mujoco.MjModel, q: np.ndarray) -> tuple[mujoco.MjData, np.ndarray]:
    """MuJoCo's data at joint angles, and its tool centre point."""
    data = mujoco.MjData(model)
    data.qpos[:7] = q
    mujoco.mj_forward(model, data)
    hand = data.body("hand")
    return data, hand.xpos + hand.xmat.reshape(3, 3) @ np.array([0, 0, TCP])


def test_forward_equals_mujoco(model, joints):
    poses = forward(joints, np)
    for i, q in enumerate(joints):
        data, tcp = posed(model, q)
        np.testing.assert_allclose(poses.tcp[i], tcp, atol=1e-8)
        # Rows here are the tool's axes, which are MuJoCo's columns.
        axes = data.body("hand").xmat.reshape(3, 3).T
        np.testing.assert_allclose(poses.frame[i], axes, atol=1e-8)
        np.testing.assert_allclose(poses.axes[i], data.xaxis[:7], atol=1e-8)


def test_single_precision_is_close(joints):
    exact = forward(joints, np)
    single = jax.jit(forward)(jnp.asarray(joints, jnp.float32))
    np.testing.assert_allclose(single.tcp, exact.tcp, atol=2e-6)
    np.testing.assert_allclose(single.frame, exact.frame, atol=2e-6)


def test_jacobian_equals_mujoco(model, joints):
    rows = jacobian(forward(joints, np), np)
    hand = model.body("hand").id
    for i, q in enumerate(joints):
        data, tcp = posed(model, q)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jac(model, data, linear, angular, tcp, hand)
        expected = np.concatenate([linear[:, :7], angular[:, :7]]).T
        np.testing.assert_allclose(rows[i], expected, atol=1e-8)


def test_jacobian_equals_finite_differences(joints):
    rows, step = jacobian(forward(joints, np), np), 1e-6
    frame = forward(joints, np).frame
    for j in range(7):
        offset = step * np.eye(7)[j]
        high, low = forward(joints + offset, np), forward(joints - offset, np)
        moved = (high.tcp - low.tcp) / (2 * step)
        np.testing.assert_allclose(rows[:, j, :3], moved, atol=1e-8)
        # Axes e_k turn by w x e_k, so w is half the sum of e_k x de_k.
        turned = (high.frame - low.frame) / (2 * step)
        np.testing.assert_allclose(rows[:, j, 3:], 0.5 * np.cross(frame, turned).sum(-2), atol=1e-8)


def test_home_points_down():
    pose = forward(np.array(HOME), np)
    np.testing.assert_allclose(pose.frame, down_frame(np.array(0.0), np), atol=0.2)
    assert 0.4 < pose.tcp[0] < 0.6 and pose.tcp[2] > 0.05


def test_yaw_of_a_downward_frame():
    yaw = np.linspace(-3, 3, 7)
    frame = down_frame(yaw, np)
    np.testing.assert_allclose(yaw_of(forward(np.zeros((7, 7)), np)._replace(frame=frame), np), yaw)
    np.testing.assert_allclose(
        frame @ frame.swapaxes(-1, -2), np.tile(np.eye(3), (7, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(frame), 1.0)
