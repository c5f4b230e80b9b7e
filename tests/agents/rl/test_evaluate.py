"""Evaluation: controls, determinism, and policies whose success is known beforehand."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.evaluate import CONTROLS, Evaluator, spoil
from loomax.envs.point_mass import PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.vector import VectorEnv

EPISODES, CHUNK, SPEED, RADIUS = 32, 2, 0.25, 0.15


@pytest.fixture
def obs():
    images = {"scene": jnp.full((3, 2, 2, 3), 7, jnp.uint8)}
    return {"instruction": jnp.array([0, 1, 2]), "images": images, "proprio": jnp.ones((3, 4))}


def test_without_a_control_nothing_changes(obs):
    shown = spoil(obs, jnp.int32(CONTROLS.index("none")), 4)
    jax.tree.map(np.testing.assert_array_equal, shown, obs)


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_every_episode_is_told_another_instruction(obs, count):
    said = jnp.repeat(jnp.arange(count, dtype=jnp.int32), 3 * (count - 1))
    obs = obs | {"instruction": said}
    shown = spoil(obs, jnp.int32(CONTROLS.index("shuffled instructions")), count)
    told = np.asarray(shown["instruction"])
    assert (told != obs["instruction"]).all() and told.min() >= 0 and told.max() < count
    assert told.dtype == obs["instruction"].dtype
    # Every pair of what is true and what is told comes equally often.
    pairs = np.bincount(np.asarray(said) * count + told, minlength=count * count)
    np.testing.assert_array_equal(pairs.reshape(count, count), 3 * (1 - np.eye(count)))
    np.testing.assert_array_equal(shown["images"]["scene"], obs["images"]["scene"])


def test_a_single_instruction_has_no_other(obs):
    obs = obs | {"instruction": jnp.zeros(3, jnp.int32)}
    shown = spoil(obs, jnp.int32(CONTROLS.index("shuffled instructions")), 1)
    assert not shown["instruction"].any()


def test_black_images_keep_everything_else(obs):
    shown = spoil(obs, jnp.int32(CONTROLS.index("black images")), 4)
    assert not shown["images"]["scene"].any() and shown["images"]["scene"].dtype == jnp.uint8
    assert obs["images"]["scene"].all()
    for name in ("instruction", "proprio"):
        np.testing.assert_array_equal(shown[name], obs[name])


@dataclass(frozen=True)
class Homing:
    """A flow whose ode ends at the straight way to the goal (or away from it), exactly."""

    sign: float
    horizon: int = CHUNK
    action_dim: int = 2
    critic: str = "none"

    def encode(self, params, obs):
        return obs["proprio"][:, 2:]

    def velocity(self, params, context, x, t):
        first = jnp.clip(context / SPEED, -1, 1)
        second = jnp.clip(context / SPEED - first, -1, 1)
        target = self.sign * jnp.stack([first, second], axis=1)
        return (x - target) / t[:, None, None], jnp.zeros((*x.shape[:2], 1))

    def noise_std(self, params, hidden):
        raise AssertionError("evaluation is by ode")

    def value(self, params, context, privileged, hidden):
        raise AssertionError("evaluation needs no critic")


def evaluator(sign: float, trace: bool = False):
    venv = VectorEnv(PointMass(PointMassConfig(horizon=9)), images=False, trace=trace)
    return jax.jit(Evaluator(Homing(sign), venv, chunks=5, chunk=CHUNK, steps=3))


def test_a_policy_that_knows_the_way_always_arrives(key):
    run = evaluator(1.0, trace=True)
    keys = jax.random.split(jax.random.key(5), EPISODES)
    start = jax.vmap(lambda k: PointMass(PointMassConfig()).reset(key=k))(jax.random.clone(keys))
    played = run({}, jax.random.clone(keys), jnp.int32(0), key=key)
    assert played.success.all()
    # Steps until both coordinates are near enough, at most 0.25 each per step.
    left = np.abs(np.asarray(start.data.goal - start.data.point))
    count = np.zeros(EPISODES, int)
    for step in range(1, 10):
        near = np.linalg.norm(np.maximum(left - SPEED * step, 0), axis=-1) < RADIUS
        count = np.where((count == 0) & near, step, count)
    np.testing.assert_array_equal(played.steps, count)
    assert played.trace.done.shape == (5, EPISODES, CHUNK)
    again = run({}, keys, jnp.int32(0), key=key)
    np.testing.assert_array_equal(again.trace.data.point, played.trace.data.point)


def test_a_policy_that_flees_fails(key):
    played = evaluator(-1.0)({}, jax.random.split(jax.random.key(5), EPISODES), jnp.int32(0),
                             key=key)  # fmt: skip
    lucky = np.asarray(played.success)
    assert lucky.mean() < 0.1 and played.trace is None
    np.testing.assert_array_equal(np.asarray(played.steps)[~lucky], 9)
