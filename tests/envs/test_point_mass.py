"""The toy world, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.envs.point_mass import Plane, PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.types import Env


@pytest.fixture(scope="module")
def env() -> PointMass:
    return PointMass(PointMassConfig(horizon=8, speed=0.25, radius=0.15))


def at(env: PointMass, point, goal):
    """A fresh episode with these positions."""
    state = env.reset(key=jax.random.key(0))
    return state.replace(data=Plane(jnp.array(point), jnp.array(goal)))


def test_it_is_an_environment(env):
    assert isinstance(env, Env) and env.instructions == ("go",)
    assert env.render(env.reset(key=jax.random.key(0))) == {}


def test_reset_draws_a_point_and_a_goal(env):
    states = jax.vmap(lambda key: env.reset(key=key))(jax.random.split(jax.random.key(0), 500))
    both = np.stack([states.data.point, states.data.goal])
    assert (np.abs(both) <= 1).all()
    np.testing.assert_allclose(both.mean(1), 0.0, atol=0.1)
    np.testing.assert_allclose(both.std(1), 1 / np.sqrt(3), atol=0.05)
    assert states.obs["proprio"].shape == (500, env.proprio_size)
    assert states.obs["privileged"].shape == (500, env.privileged_size)


def test_a_step_moves_the_point_and_pays_the_distance_gained(env):
    state = env.step(at(env, (0.0, 0.0), (0.8, 0.0)), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(state.data.point, [0.25, 0.0])
    assert float(state.reward) == pytest.approx(0.25)
    np.testing.assert_allclose(state.obs["proprio"], [0.25, 0.0, 0.55, 0.0], atol=1e-6)
    assert float(state.done) == 0.0 and int(state.info["steps"]) == 1


def test_actions_are_clipped_and_walls_hold(env):
    state = at(env, (0.0, 0.0), (-1.0, 0.0))
    state = env.step(state, jnp.array([50.0, -50.0]))
    np.testing.assert_allclose(state.data.point, [0.25, -0.25])
    for _ in range(10):
        state = env.step(state, jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(state.data.point, [1.5, -1.5])


def test_the_goal_terminates(env):
    state = env.step(at(env, (0.0, 0.0), (0.3, 0.0)), jnp.array([1.0, 0.0]))
    assert float(state.reward) == pytest.approx(0.25 + 1.0)
    flags = [float(state.info[k]) for k in ("success", "terminated", "truncated")]
    assert flags == [1.0, 1.0, 0.0] and float(state.done) == 1.0


def test_time_truncates(env):
    state = at(env, (0.0, 0.0), (1.0, 1.0))
    for i in range(8):
        assert float(state.done) == 0.0, i
        state = env.step(state, jnp.zeros(2))
    flags = [float(state.info[k]) for k in ("success", "terminated", "truncated")]
    assert flags == [0.0, 0.0, 1.0] and float(state.done) == 1.0


def test_reset_and_step_give_one_structure(env):
    start = jax.eval_shape(lambda k: env.reset(key=k), jax.random.key(0))
    after = jax.eval_shape(env.step, start, jax.ShapeDtypeStruct((2,), jnp.float32))
    assert jax.tree.structure(start) == jax.tree.structure(after)
    for before, now in zip(jax.tree.leaves(start), jax.tree.leaves(after), strict=True):
        assert (before.shape, before.dtype) == (now.shape, now.dtype)
