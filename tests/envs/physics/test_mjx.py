"""Parity of the compiled physics with MuJoCo's C engine, on the same model and commands."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from loomax.envs.control.arm import servo_targets
from loomax.envs.physics import mjx as physics
from loomax.envs.scene.panda import HOME
from loomax.envs.scene.table import CUBE_HALF, cube_qpos

# First differences come from contact margins at single precision; a cube that is pushed about
# amplifies them. The arm alone stays close.
ARM_TOLERANCE = 2e-3


def replay(env, start, states, index: int) -> np.ndarray:
    """The C engine's positions after every control step, [T, nq]."""
    model = env.mj_model
    data = mujoco.MjData(model)
    world = jax.tree.map(lambda x: x[index], start.data)
    data.qpos[:] = world.physics.qpos
    controls = jax.tree.map(lambda x: x[index], states.data.control)
    before, places = world.control, []
    for t in range(controls.yaw.shape[0]):
        after = jax.tree.map(lambda x, t=t: x[t], controls)
        for command in np.asarray(servo_targets(before, after, env.scene.substeps)):
            data.ctrl[:] = command
            mujoco.mj_step(model, data)
        places.append(data.qpos.copy())
        before = after
    return np.array(places)


@pytest.fixture(scope="module")
def wandering(picking):
    return picking.start(3), picking.random(3, size=0.6)[1]


@pytest.mark.parametrize("index", [0, 7])
def test_random_control_follows_the_c_engine(picking, wandering, index):
    """200 physics steps of random control."""
    start, states = wandering
    expected = replay(picking.env, start, states, index)
    actual = np.asarray(states.data.physics.qpos[index])
    assert expected.shape == (40, picking.env.mj_model.nq)
    assert np.abs(np.diff(expected[:, :7], axis=0)).max() > 0.02
    np.testing.assert_allclose(actual[:, :9], expected[:, :9], atol=ARM_TOLERANCE)
    # A cube that starts to touch the table within rounding falls for one substep, or does not.
    np.testing.assert_allclose(actual[0], expected[0], atol=5e-4)


def test_a_grasp_goes_as_in_the_c_engine(picking):
    """The same commands lift the same cube in both engines, along nearly the same path."""
    start, (_, states) = picking.start(5), picking.expert(5)
    for index in range(4):
        slot = cube_qpos(int(start.data.target[index]))
        expected = replay(picking.env, start, states, index)[:, slot : slot + 3]
        actual = np.asarray(states.data.physics.qpos[index, :, slot : slot + 3])
        assert expected[:, 2].max() > CUBE_HALF + 0.04
        assert np.abs(actual[:20] - expected[:20]).max() < 5e-3


def test_time_advances(picking, wandering):
    start, states = wandering
    np.testing.assert_array_equal(start.data.physics.time, 0.0)
    np.testing.assert_allclose(states.data.physics.time[0], 0.05 * np.arange(1, 41), rtol=1e-5)


def test_a_world_starts_at_rest():
    qpos = jnp.asarray([*HOME, 0.0, 0.0])
    world = physics.initial(qpos, 9)
    assert world.qvel.shape == world.qacc_warmstart.shape == (9,)
    assert not world.qvel.any() and float(world.time) == 0.0
