"""The loss against NumPy in float64, its mask, and that rewards rise."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.pretrain.learner import Learner
from loomax.agents.rl.loss_config import GroupConfig, GRPOLossConfig
from loomax.agents.search.train.grpo.learner import (
    GRPOLearner,
    Rollouts,
    objective,
    samples_of,
    token_log_probs,
)
from loomax.models.lm import create, logits

GROUP = 4
log_probs = jax.jit(token_log_probs, static_argnums=0)


@pytest.fixture(scope="module")
def config(reinforced):
    return replace(reinforced, group=GroupConfig(size=GROUP))


def scored(config, small, rollouts):
    """Samples with log-probabilities of `small`'s policies, the second as the reference."""
    old, ref = (log_probs(config.model, params, rollouts.tokens) for params in small)
    return samples_of(config, rollouts).replace(old=old, ref=ref if config.loss.kl_coef else None)


def reference_loss(config, rollouts, now, old, ref):
    """Equation 3 of arXiv 2402.03300 in NumPy, float64, one token after the other."""
    loss, reward = config.loss, np.asarray(rollouts.reward, np.float64)
    groups = reward.reshape(-1, GROUP)
    std = groups.std(1, ddof=1, keepdims=True)
    advantage = ((groups - groups.mean(1, keepdims=True)) / (std + config.group.eps)).ravel()
    total, weights = 0.0, 0.0
    for row, mask in enumerate(np.asarray(rollouts.written)[:, 1:]):
        weight = 1 / mask.sum() if loss.length_normalise else 1.0
        for t in np.flatnonzero(mask):
            ratio = np.exp(now[row, t] - old[row, t])
            clipped = np.clip(ratio, 1 - loss.clip_low, 1 + loss.clip_high)
            each = -min(ratio * advantage[row], clipped * advantage[row])
            if loss.kl_coef:
                away = now[row, t] - ref[row, t]
                each += loss.kl_coef * (np.expm1(-away) + away)
            total, weights = total + weight * each, weights + weight
    return total / weights


@pytest.mark.parametrize("length_normalise", [False, True])
@pytest.mark.parametrize("kl_coef", [0.0, 0.3])
def test_the_loss_is_the_papers(config, small, rollouts, kl_coef, length_normalise):
    loss = GRPOLossConfig(level="token", kl_coef=kl_coef, length_normalise=length_normalise)
    config = replace(config, loss=loss)
    samples = scored(config, small, rollouts)
    now = samples.old + 0.4 * jax.random.normal(jax.random.key(5), samples.old.shape)
    found, metrics = objective(config, samples, now)
    now, old = (np.asarray(x, np.float64) for x in (now, samples.old))
    ref = None if samples.ref is None else np.asarray(samples.ref, np.float64)
    wanted = reference_loss(config, rollouts, now, old, ref)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)
    assert 0.1 < metrics["clip_fraction"] < 0.9


def test_log_probabilities_are_of_the_tokens_that_follow(config, small, rollouts):
    found = log_probs(config.model, small[0], rollouts.tokens)
    tokens = np.asarray(rollouts.tokens)
    scores = np.asarray(logits(config.model, small[0], rollouts.tokens), np.float64)[:, :-1]
    chosen = np.take_along_axis(scores, tokens[:, 1:, None], -1)[..., 0]
    wanted = chosen - np.log(np.exp(scores).sum(-1))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_tokens_of_tools_have_no_gradient(config, small, rollouts):
    config = replace(config, loss=GRPOLossConfig(level="token", kl_coef=0.1))
    samples = scored(config, small, rollouts)
    grad = jax.grad(lambda now: objective(config, samples, now)[0])
    slope = np.asarray(grad(samples.old + 0.01))
    counted = np.asarray(rollouts.written)[:, 1:]
    assert not slope[~counted].any() and slope[counted].all()
    # Whatever those tokens' log-probabilities are, even infinite, nothing changes.
    hidden = jnp.where(counted, samples.old + 0.01, -jnp.inf)
    np.testing.assert_array_equal(grad(hidden), slope)
    changed = samples.replace(old=jnp.where(counted, samples.old, 3.0))
    again = jax.grad(lambda now: objective(config, changed, now)[0])(samples.old + 0.01)
    np.testing.assert_array_equal(again, slope)


def test_groups_of_equal_rewards_teach_nothing(config, small, rollouts):
    alike = rollouts.replace(reward=jnp.full_like(rollouts.reward, 0.1))
    samples = scored(config, small, alike)
    slope = jax.grad(lambda now: objective(config, samples, now)[0])(samples.old)
    assert not np.asarray(slope).any()


def test_rewards_rise(config, mesh):
    """The model learns to write a token, with tokens of a tool between what it writes."""
    model, rows, length = replace(config.model, vocab=8), 16, 10
    config = replace(config, model=model, steps=20, lr=2e-2, end_lr=2e-2)
    written = jnp.zeros((rows, length), bool).at[:, 2:5].set(True).at[:, 7:].set(True)
    tool = jax.random.randint(jax.random.key(3), (rows, length), 0, model.vocab)
    state = Learner(config.pretraining, mesh).begin(create(model, key=jax.random.key(0)))

    @jax.jit
    def drawn(params, key):
        def write(t, tokens):
            scores = logits(model, params, tokens)[:, t - 1]
            token = jax.random.categorical(jax.random.fold_in(key, t), scores)
            return tokens.at[:, t].set(jnp.where(written[:, t], token, tokens[:, t]))

        return jax.lax.fori_loop(2, length, write, tool)

    learn = jax.jit(GRPOLearner(config))
    rewards = []
    for step in range(config.steps):
        tokens = drawn(state.params, jax.random.key(100 + step))
        reward = ((tokens == 5) & written).sum(1) / written.sum(1)
        state, metrics = learn(state, None, Rollouts(tokens, written, reward))
        rewards.append(float(reward.mean()))
    assert int(state.step) == config.steps and metrics["ratio_max"] > 1
    # By chance one token in eight.
    assert rewards[0] < 0.3 and np.mean(rewards[-3:]) > 0.8, rewards
