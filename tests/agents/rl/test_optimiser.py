"""Two learning rates, and a step size that follows the KL divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.config import OptimiserConfig
from loomax.agents.rl.optimiser import (
    ACTOR,
    CRITIC,
    LR_HIGH,
    LR_LOW,
    adapt,
    labels,
    make_optimiser,
    scale_actor,
)

PARAMS = {"enter": {"kernel": jnp.ones(3)}, "critic_enter": {"kernel": jnp.ones(2)}}


def test_the_critic_is_known_by_its_name():
    assert labels(PARAMS) == {"enter": {"kernel": ACTOR}, "critic_enter": {"kernel": CRITIC}}


def test_actor_and_critic_have_their_own_rates():
    tx = make_optimiser(OptimiserConfig(lr=1e-2, critic_lr=1e-1))
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    # Adam's first step is the learning rate, whatever the gradient.
    np.testing.assert_allclose(updates["enter"]["kernel"], -1e-2, rtol=1e-4)
    np.testing.assert_allclose(updates["critic_enter"]["kernel"], -1e-1, rtol=1e-4)


def test_scaling_leaves_the_critic_alone():
    scaled = scale_actor(PARAMS, jnp.float32(0.25))
    np.testing.assert_array_equal(scaled["enter"]["kernel"], 0.25)
    np.testing.assert_array_equal(scaled["critic_enter"]["kernel"], 1.0)


@pytest.mark.parametrize(
    ("target", "kl", "factor"),
    [
        (0.01, 0.021, 1 / 1.5),
        (0.01, 0.019, 1.0),
        (0.01, 0.006, 1.0),
        (0.01, 0.004, 1.5),
        (0.0, 9.0, 1.0),
    ],
    ids=["far too large", "large", "small", "far too small", "off"],
)
def test_the_rate_falls_when_the_policy_moved_too_far(target, kl, factor):
    config = OptimiserConfig(kl_target=target)
    assert adapt(config, jnp.float32(2.0), jnp.float32(kl)) == pytest.approx(2.0 * factor)


def test_the_rate_stays_within_its_bounds():
    config = OptimiserConfig(kl_target=0.01)
    assert adapt(config, jnp.float32(LR_LOW), jnp.float32(1.0)) == pytest.approx(LR_LOW)
    assert adapt(config, jnp.float32(LR_HIGH), jnp.float32(0.0)) == pytest.approx(LR_HIGH)
