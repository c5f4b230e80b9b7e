"""Inverse kinematics: it reaches, it stays within limits, it calls no LAPACK."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.envs.control.config import ControlConfig
from loomax.envs.control.ik import ik_step, pose_error, solve_poses
from loomax.envs.control.kinematics import forward, yaw_of
from loomax.envs.control.solve import solve_spd
from loomax.envs.scene.panda import HOME, LOWER, UPPER

CONFIG = ControlConfig()


@pytest.fixture(scope="module")
def goals() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    low, high = (0.38, -0.22, 0.02), (0.64, 0.22, 0.30)
    return rng.uniform(low, high, (64, 3)), rng.uniform(-0.9, 0.9, 64)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_solve_equals_numpy(size):
    rng = np.random.default_rng(size)
    root = rng.standard_normal((50, size, size))
    matrix = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(size)
    rhs = rng.standard_normal((50, size))
    expected = np.linalg.solve(matrix, rhs[..., None])[..., 0]
    np.testing.assert_allclose(solve_spd(matrix, rhs, np), expected, rtol=1e-8)
    single = solve_spd(jnp.asarray(matrix, jnp.float32), jnp.asarray(rhs, jnp.float32))
    np.testing.assert_allclose(single, expected, rtol=2e-3, atol=2e-3)


def test_solved_poses_are_reached(goals):
    position, yaw = goals
    joints = solve_poses(CONFIG, position, yaw)
    pose = forward(joints, np)
    np.testing.assert_allclose(pose.tcp, position, atol=1e-5)
    np.testing.assert_allclose(yaw_of(pose, np), yaw, atol=1e-5)
    np.testing.assert_allclose(pose.frame[:, 2], np.tile([0, 0, -1], (64, 1)), atol=1e-5)
    assert (joints >= np.array(LOWER)).all() and (joints <= np.array(UPPER)).all()


def test_what_cannot_be_reached_is_refused():
    with pytest.raises(ValueError, match="pose error .* must be below 1e-4"):
        solve_poses(CONFIG, np.array([[1.5, 0.0, 0.2]]), np.zeros(1))


def test_a_few_steps_follow_the_target(goals):
    """Within ten control steps the joints stand where the target does, to a millimetre."""
    position, yaw = (jnp.asarray(x, jnp.float32) for x in goals)
    step = jax.jit(lambda q: ik_step(CONFIG, q, position, yaw))
    q = jnp.tile(jnp.asarray(HOME), (64, 1))
    for _ in range(20):
        q = step(q)
    assert np.abs(pose_error(forward(q), position, yaw)).max() < 2e-3


def test_null_space_pulls_home_without_moving_the_tool(goals):
    position, yaw = goals
    start = solve_poses(CONFIG, position, yaw)
    # Leave the solution along the null space, then let the controller return.
    strayed, exact = start.copy(), replace(CONFIG, home_pull=0.0, damping=1e-9)
    strayed[:, 2] += 0.3
    for _ in range(20):
        strayed = ik_step(exact, strayed, position, yaw, np)
    assert np.abs(pose_error(forward(strayed, np), position, yaw, np)).max() < 1e-6
    returned = strayed
    for _ in range(30):
        returned = ik_step(CONFIG, returned, position, yaw, np)
    home = np.array(HOME)
    before = np.linalg.norm(strayed - home, axis=-1)
    after = np.linalg.norm(returned - home, axis=-1)
    assert (after < before).mean() > 0.95
    assert np.abs(pose_error(forward(returned, np), position, yaw, np)).max() < 2e-3


def test_a_step_is_bounded():
    config = replace(CONFIG, max_joint_step=0.1)
    q = np.array(HOME)
    far = ik_step(config, q, np.array([0.3, -0.9, 0.9]), np.array(2.0), np)
    assert 0.09 < np.abs(far - q).max() <= 0.1 + 1e-12


def test_control_calls_no_lapack():
    """Blocked LAPACK calls can hang XLA:CPU on few cores."""
    q = jnp.zeros((4, 7))
    program = jax.jit(lambda q: ik_step(CONFIG, q, jnp.zeros((4, 3)), jnp.zeros(4))).lower(q)
    text = program.as_text()
    assert "dot_general" in text
    assert "custom_call" not in text and "lapack" not in text
