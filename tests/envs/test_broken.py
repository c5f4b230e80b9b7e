"""An environment that reaches numbers that are not finite: it ends alone, and begins afresh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.envs.point_mass import PointMass
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.vector import VectorEnv

BATCH, CALLS, CHUNK = 8, 5, 2
BAD = 3
WHERE = ["reward", "proprio", "point"]


class Failing(PointMass):
    """Fails in its third step where the goal's x is `unlucky`, or at its reset."""

    def __init__(self, where: str, unlucky: float, value: float = float("nan")):
        super().__init__(PointMassConfig(horizon=50, radius=1e-6))
        self.where, self.unlucky, self.value = where, unlucky, value

    def reset(self, *, key):
        return self._spoil(super().reset(key=key), at=0 if self.where == "reset" else -1)

    def step(self, state, action):
        return self._spoil(super().step(state, action), at=3)

    def _spoil(self, state, at):
        hit = (state.data.goal[0] == self.unlucky) & (state.info["steps"] == at)
        spoil = lambda x: jnp.where(hit, self.value, x)  # noqa: E731
        if self.where == "reward":
            return state.replace(reward=spoil(state.reward))
        if self.where == "proprio":
            return state.replace(obs=dict(state.obs, proprio=spoil(state.obs["proprio"])))
        return state.replace(data=state.data.replace(point=spoil(state.data.point)))


def keys():
    return jax.random.split(jax.random.key(0), BATCH)


def play(env, auto_reset=True):
    """States, observations and outcomes of some chunks, [T, B, ...]."""
    venv = VectorEnv(env, images=False)

    def program(keys):
        def body(carry, t):
            state, _ = carry
            actions = jax.random.uniform(
                jax.random.fold_in(jax.random.key(1), t), (BATCH, CHUNK, 2)
            )
            fresh = jax.random.split(jax.random.fold_in(jax.random.key(2), t), BATCH)
            state, obs, outcome = venv.chunk(state, actions, fresh if auto_reset else None)
            return (state, obs), (state, obs, outcome)

        return jax.lax.scan(body, venv.reset(keys), jnp.arange(CALLS))[1]

    return jax.device_get(jax.jit(program)(keys()))


@pytest.fixture(scope="module")
def unlucky():
    goals = jax.vmap(lambda key: PointMass(PointMassConfig()).reset(key=key).data.goal)(keys())
    return float(goals[BAD, 0])


@pytest.fixture(scope="module")
def sound():
    return play(Failing("reward", 99.0))


@pytest.mark.parametrize(
    ("where", "value"),
    [("reward", np.nan), ("proprio", np.nan), ("point", np.nan), ("reward", -np.inf)],
)
def test_one_ends_and_no_other_notices(where, value, unlucky, sound):
    found = play(Failing(where, unlucky, value))
    others = np.arange(BATCH) != BAD
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(sound), strict=True
    ):
        np.testing.assert_array_equal(
            a[:, others], b[:, others], err_msg=jax.tree_util.keystr(path)
        )
        if a.dtype.kind == "f":
            assert np.isfinite(a).all(), jax.tree_util.keystr(path)
    state, _, outcome = found
    # Three steps: it ends in the second chunk's first.
    np.testing.assert_array_equal(outcome.broken[:, BAD], [False, True, False, False, False])
    np.testing.assert_array_equal(outcome.valid[:2, BAD], [[True, True], [False, False]])
    assert not outcome.broken[:, others].any()
    for flag in (outcome.terminated, outcome.truncated, outcome.success):
        assert not flag[1, BAD]
    assert (outcome.reward[1, BAD] == 0).all()
    # The fresh episode is a new one, and goes on.
    assert state.info["steps"][1, BAD] == 0 and (state.done[1:, BAD] == 0).all()
    assert state.data.goal[1, BAD, 0] != np.float32(unlucky)
    assert outcome.valid[2:, BAD].all()


def test_without_reset_it_stays_as_it_was(unlucky):
    state, obs, outcome = play(Failing("point", unlucky), auto_reset=False)
    assert (state.done[1:, BAD] == 1).all() and (state.info["steps"][1:, BAD] == 2).all()
    np.testing.assert_array_equal(outcome.broken[:, BAD], [False, True, False, False, False])
    assert not outcome.valid[1:, BAD].any()
    np.testing.assert_array_equal(obs["proprio"][1:, BAD], obs["proprio"][:1, BAD].repeat(4, 0))


def test_an_episode_that_cannot_begin_is_over_until_one_can(unlucky):
    env = Failing("reset", unlucky)
    state, obs = VectorEnv(env, images=False).reset(keys())
    np.testing.assert_array_equal(state.done, np.arange(BATCH) == BAD)
    assert all(np.isfinite(x).all() for x in (obs["proprio"], state.data.point, state.reward))
    state, _, outcome = play(env)
    assert not outcome.valid[0, BAD].any() and not outcome.broken[:, BAD].any()
    assert outcome.valid[1:, BAD].all() and (state.done[:, BAD] == 0).all()
