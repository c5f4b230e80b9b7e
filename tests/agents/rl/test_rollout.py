"""Rollouts against a point mass played in NumPy, and the likelihood of what was stored."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.estimates import estimate
from loomax.agents.rl.mlp_policy import MLPFlowPolicy
from loomax.agents.rl.objective import likelihood, objective

SPEED, RADIUS, HORIZON, CHUNK = 0.25, 0.5, 5, 2


def play_chunk(privileged: np.ndarray, actions: np.ndarray):
    """One chunk of one point mass: final privileged state, rewards, validity, flags."""
    point, goal = privileged[:2].copy(), privileged[:2] + privileged[2:4]
    steps = round(float(privileged[4]) * HORIZON)
    rewards, valid = np.zeros(CHUNK), np.zeros(CHUNK, bool)
    success = 0 < steps and np.linalg.norm(point - goal) < RADIUS
    truncated = steps >= HORIZON and not success
    started = not (success or truncated)
    for step in range(CHUNK):
        if success or truncated:
            break
        before = np.linalg.norm(point - goal)
        point = np.clip(point + SPEED * np.clip(actions[step], -1, 1), -1.5, 1.5)
        after = np.linalg.norm(point - goal)
        steps += 1
        success = after < RADIUS
        truncated = steps >= HORIZON and not success
        rewards[step], valid[step] = before - after + success, True
    final = np.concatenate([point, goal - point, [steps / HORIZON]])
    return final, rewards, valid, started and success, started and truncated


@pytest.fixture(scope="module", params=[True, False], ids=["auto-reset", "one-episode"])
def played(request, small, parts_of):
    """A rollout in which some episodes end inside a chunk, some at its end, some not."""
    config = small(auto_reset=request.param, calls=6, chunk=CHUNK, store_context=False)
    config = replace(config, env=replace(config.env, horizon=HORIZON, radius=RADIUS))
    parts = parts_of(config)
    params = parts.init_params(key=jax.random.key(0))

    def rollout(keys, key):
        state, obs = parts.venv.reset(keys)
        return parts.actor.rollout(params, state, obs, calls=6, auto_reset=request.param, key=key)

    keys = jax.random.split(jax.random.key(1), 16)
    _, obs, steps = jax.jit(rollout)(keys, jax.random.key(2))

    def value(privileged):
        flat = jnp.asarray(privileged, jnp.float32).reshape(-1, 5)
        return parts.policy.value(params, None, flat, None).reshape(privileged.shape[:-1])

    return request.param, value, obs, jax.device_get(steps)


def by_hand(steps):
    """`play_chunk` of every call of every environment."""
    actions = steps.chain[:, :, -1]
    calls, envs = steps.index.shape
    rows = [[play_chunk(steps.privileged[t, b], actions[t, b]) for b in range(envs)]
            for t in range(calls)]  # fmt: skip
    return [np.array([[row[i] for row in line] for line in rows]) for i in range(5)]


def test_a_rollout_is_what_numpy_plays(played):
    _, _, _, steps = played
    _, rewards, valid, terminated, truncated = by_hand(steps)
    np.testing.assert_array_equal(steps.valid, valid)
    np.testing.assert_allclose(steps.reward, rewards, atol=1e-6)
    np.testing.assert_array_equal(steps.terminated, terminated)
    np.testing.assert_array_equal(steps.truncated, truncated)
    # Every kind of chunk occurs: whole, cut short, ended by success and by time.
    assert {1, 2} <= set(valid.sum(-1).ravel()) and terminated.any() and truncated.any()


def test_values_are_those_of_what_was_seen(played):
    _, value, _, steps = played
    np.testing.assert_allclose(steps.value, value(steps.privileged), atol=1e-6)


def test_next_values_see_the_final_observation_and_never_the_fresh_one(played):
    auto_reset, value, obs, steps = played
    final = by_hand(steps)[0]
    seen_next = np.concatenate([steps.privileged[1:], np.asarray(obs["privileged"])[None]])
    ended = steps.terminated | steps.truncated
    wanted = np.where(ended, value(final), value(seen_next))
    np.testing.assert_allclose(steps.next_value, wanted, atol=1e-6)
    fresh = np.abs(value(final) - value(seen_next)) > 1e-3
    # With auto-reset a wrong choice would show; without it nothing is ever replaced.
    assert (ended & fresh).any() == auto_reset
    assert ended.any() and not ended.all()


def test_without_reset_nothing_is_valid_after_an_end(played):
    auto_reset, _, _, steps = played
    ended = np.cumsum(steps.terminated | steps.truncated, axis=0) > 0
    after = np.concatenate([np.zeros_like(ended[:1]), ended[:-1]])
    if auto_reset:
        assert steps.valid[:, :, 0].all()
    else:
        assert not steps.valid[after].any() and after.any()
        assert (steps.terminated | steps.truncated).sum(0).max() == 1


class Watching(MLPFlowPolicy):
    """A critic that reads what the policy sees; its value is the distance to the goal in x."""

    critic = "prefix"

    def value(self, params, context, privileged, hidden):
        return context[:, 2]


def test_critics_that_look_see_the_final_observation(small, parts_of):
    config = small(chunk=CHUNK, store_context=False)
    config = replace(config, env=replace(config.env, horizon=CHUNK, radius=1e-3))
    parts = parts_of(config)
    params = parts.init_params(key=jax.random.key(0))
    plain = parts.policy
    actor = replace(parts.actor, policy=Watching(plain.config, plain.sampler, plain.graphdef))

    def rollout(keys, key):
        state, obs = parts.venv.reset(keys)
        return actor.rollout(params, state, obs, calls=2, auto_reset=True, key=key)

    keys = jax.random.split(jax.random.key(1), 16)
    _, _, steps = jax.jit(rollout)(keys, jax.random.key(2))
    moved = SPEED * np.clip(steps.chain[:, :, -1, :CHUNK, 0], -1, 1).sum(-1)
    assert np.asarray(steps.truncated).all()
    # Positions are cut at 1.5, which these few steps do not reach for most.
    inside = np.abs(np.asarray(steps.privileged[..., 0]) + moved) < 1.5
    wanted = np.asarray(steps.value) - moved
    np.testing.assert_allclose(steps.next_value[inside], wanted[inside], atol=1e-5)
    assert inside.mean() > 0.5


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "encoded-again"])
@pytest.mark.parametrize("kind", ["sde", "noise", "cps"])
def test_the_first_ratio_is_one(kind, stored, small, parts_of):
    config = small(kind=kind, store_context=stored)
    parts = parts_of(config)
    params = parts.init_params(key=jax.random.key(0))
    policy = parts.policy

    def program(keys, key):
        state, obs = parts.venv.reset(keys)
        _, _, steps = parts.actor.rollout(params, state, obs, calls=2, auto_reset=True, key=key)
        flat = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (steps, estimate(config.rl, steps))
        )
        context = flat[0].source if stored else policy.encode(params, flat[0].source)
        again = likelihood(config.rl, policy, params, context, flat[0])
        dims = parts.learner.dims
        return flat[0], again, objective(config.rl, policy, params, params, *flat, dims)[1]

    keys = jax.random.split(jax.random.key(1), 16)
    steps, again, metrics = jax.jit(program)(keys, jax.random.key(2))
    np.testing.assert_allclose(again.log_prob, steps.log_prob, atol=2e-6)
    assert np.abs(np.asarray(steps.log_prob)).min() > 0
    np.testing.assert_allclose([metrics["ratio_mean"], metrics["ratio_max"]], 1, atol=1e-5)
    assert abs(float(metrics["approx_kl"])) < 1e-9 and metrics["clip_fraction"] == 0
    assert metrics["valid_fraction"] == 1
