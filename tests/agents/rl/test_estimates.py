"""What the losses read of a rollout, against NumPy in float64; what a failed environment leaves."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.estimates import estimate
from loomax.agents.rl.loss_config import GRPOLossConfig
from loomax.agents.rl.losses import PolicyBatch, policy_loss
from loomax.agents.rl.returns import gae, group_advantages
from loomax.agents.rl.rollout import Transition

CHUNK = 2


def transitions(reward, broken=None, success=None) -> Transition:
    """A rollout [T, B, C] of whole episodes that end by the time limit in the last call."""
    reward = jnp.asarray(reward, jnp.float32)
    calls, envs, _ = reward.shape
    broken = jnp.zeros((calls, envs), bool) if broken is None else jnp.asarray(broken)
    ends = jnp.zeros((calls, envs), bool).at[-1].set(True)
    zeros = jnp.zeros((calls, envs))
    gone = jnp.cumsum(broken, axis=0) > 0
    return Transition(
        source=zeros,
        privileged=jnp.zeros((calls, envs, 1)),
        chain=jnp.zeros((calls, envs, 3, 2, 2)),
        index=jnp.zeros((calls, envs), jnp.int32),
        log_prob=jnp.zeros((calls, envs, 2, 2)),
        value=zeros + 0.5,
        next_value=zeros + 0.25,
        reward=reward,
        valid=jnp.broadcast_to(~gone[..., None], reward.shape),
        terminated=jnp.zeros((calls, envs), bool),
        truncated=ends & ~gone,
        success=jnp.zeros((calls, envs), bool),
        broken=broken,
    )


def grpo_config(small, size):
    config = small("grpo").rl
    return replace(config, group=replace(config.group, size=size))


def test_a_group_of_failures_beside_a_mixed_one_is_exactly_zero(small):
    reward = np.zeros((3, 16, CHUNK))
    reward[2, 8:12, 1] = 1.0
    found = estimate(grpo_config(small, 8), transitions(reward))
    assert (np.asarray(found.advantage)[:, :8] == 0).all()
    # Four of eight: unbiased standard deviation sqrt(8 / 4 / 7).
    side = 0.5 / (np.sqrt(2 / 7) + 1e-6)
    assert side == pytest.approx(0.935, abs=1e-3)
    wanted = np.repeat(np.r_[np.full(4, side), np.full(4, -side)][None], 3, axis=0)
    np.testing.assert_allclose(np.asarray(found.advantage)[:, 8:], wanted, rtol=1e-6)


def test_group_advantages_of_a_rollout_equal_float64(small):
    reward = np.random.default_rng(0).normal(1, 3, (3, 16, CHUNK))
    found = estimate(grpo_config(small, 4), transitions(reward))
    returns = reward.sum((0, 2)).reshape(4, 4)
    wanted = returns - returns.mean(1, keepdims=True)
    wanted = (wanted / (returns.std(1, ddof=1, keepdims=True) + 1e-6)).ravel()
    np.testing.assert_allclose(found.advantage, np.repeat(wanted[None], 3, 0), atol=1e-5)
    assert (np.asarray(found.policy_weight) == 1).all()


def test_a_failed_member_leaves_its_group_as_if_it_had_not_been(small):
    reward = np.random.default_rng(1).normal(size=(3, 8, CHUNK))
    broken = np.zeros((3, 8), bool)
    broken[1, 2] = True
    found = estimate(grpo_config(small, 4), transitions(reward, broken))
    returns = reward.sum((0, 2))
    left = np.delete(returns[:4], 2)
    wanted = (left - left.mean()) / (left.std(ddof=1) + 1e-6)
    np.testing.assert_allclose(found.advantage[0, [0, 1, 3]], wanted, rtol=1e-5)
    assert (np.asarray(found.advantage)[:, 2] == 0).all()
    assert (np.asarray(found.policy_weight)[:, 2] == 0).all()
    whole = estimate(grpo_config(small, 4), transitions(reward))
    np.testing.assert_array_equal(found.advantage[:, 4:], whole.advantage[:, 4:])


def test_a_group_with_one_member_left_teaches_nothing():
    sound = jnp.array([True, False, False, True, True, True])
    got, keep = group_advantages(jnp.array([1.0, 0, 0, 1, 0, 0]), 3, sound=sound)
    assert (np.asarray(got)[:3] == 0).all() and np.asarray(got)[3] > 0
    np.testing.assert_array_equal(keep, sound)


def test_filters_judge_those_who_are_left():
    sound = jnp.array([True, True, False, True, True, True])
    # Without the third member the first group has succeeded whole, and is dropped.
    _, keep = group_advantages(jnp.array([1.0, 1, 0, 1, 0, 0]), 3, high=0.9, sound=sound)
    np.testing.assert_array_equal(keep, [False] * 3 + [True] * 3)


@pytest.mark.parametrize("bootstrap", ["truncation", "always", "none"])
def test_the_trace_does_not_pass_a_failed_environment(bootstrap):
    """Before the failure the episode ends as a rollout does; behind it another one begins."""
    rng = np.random.default_rng(2)
    reward, value, following = rng.normal(size=(3, 6, 1))
    cut = np.zeros((6, 1), bool)
    cut[2] = True
    no = np.zeros((6, 1), bool)
    options = {"gamma": 0.9, "lam": 0.7, "bootstrap": bootstrap}

    def advantages(rows):
        data = (x[rows].astype(np.float32) for x in (reward, value, following))
        return np.asarray(gae(*map(jnp.asarray, (*data, no[rows], no[rows])), **options)[0])

    dirty = [np.where(cut, np.nan, x).astype(np.float32) for x in (reward, value, following)]
    masks = {"valid": jnp.asarray(~cut), "cut": jnp.asarray(cut)}
    got, target = gae(*map(jnp.asarray, (*dirty, no, no)), **options, **masks)
    wanted = np.concatenate([advantages(slice(0, 2)), [[0]], advantages(slice(3, 6))])
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert np.isfinite(target).all()


def test_ppo_masks_the_failed_call_and_normalises_without_it(small):
    config = small().rl
    config = replace(config, credit=replace(config.credit, normalise=False))
    reward = np.random.default_rng(3).normal(size=(3, 8, CHUNK))
    broken = np.zeros((3, 8), bool)
    broken[2, 5] = True
    found = estimate(config, transitions(reward, broken))
    plain = estimate(config, transitions(reward))
    others = np.arange(8) != 5
    np.testing.assert_array_equal(
        np.asarray(found.advantage)[:, others], np.asarray(plain.advantage)[:, others]
    )
    for name in ("advantage", "policy_weight", "value_weight"):
        assert np.asarray(getattr(found, name))[2, 5] == 0
    assert (np.asarray(found.value_weight)[:2, 5] == 1).all()
    scaled = estimate(replace(config, credit=replace(config.credit, normalise=True)),
                      transitions(reward, broken))  # fmt: skip
    live = np.asarray(found.value_weight) > 0
    kept = np.asarray(found.advantage, np.float64)[live]
    wanted = (kept - kept.mean()) / (kept.std() + 1e-5)
    np.testing.assert_allclose(np.asarray(scaled.advantage)[live], wanted, rtol=1e-4, atol=1e-5)


def test_the_failed_call_ends_an_episode_to_the_length_weights(small):
    config = small().rl
    config = replace(config, loss=replace(config.loss, length_normalise=True))
    broken = np.zeros((6, 2), bool)
    broken[2, 0] = True
    steps = transitions(np.zeros((6, 2, CHUNK)), broken)
    # With auto-reset a fresh episode follows.
    valid = jnp.broadcast_to(~jnp.asarray(broken)[..., None], steps.valid.shape)
    steps = steps.replace(valid=valid, truncated=steps.truncated.at[-1].set(True))
    weight = np.asarray(estimate(config, steps).policy_weight, np.float64)
    # Episodes of 2, 3 and 6 calls: 11 calls of 3 episodes.
    each = np.r_[1 / 2, 1 / 2, 0, 1 / 3, 1 / 3, 1 / 3] * 11 / 3
    np.testing.assert_allclose(weight[:, 0], each, rtol=1e-6)
    np.testing.assert_allclose(weight[:, 1], 11 / 3 / 6, rtol=1e-6)


def test_a_better_action_becomes_likelier():
    """The sign: the gradient step raises the density of what had the larger advantage."""
    old, mask = jnp.zeros((2, 1, 1)), jnp.ones((2, 1, 1), bool)

    def loss(log_prob):
        batch = PolicyBatch(log_prob, old, jnp.array([1.0, -1.0]), mask, jnp.ones(2))
        return policy_loss(GRPOLossConfig(), batch)[0]

    gradient = jax.grad(loss)(old)[:, 0, 0]
    np.testing.assert_allclose(gradient, [-0.5, 0.5], rtol=1e-6)
