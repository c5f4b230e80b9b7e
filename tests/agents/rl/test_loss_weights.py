"""Weights of a rollout's entries in the loss, by hand."""

import jax.numpy as jnp
import numpy as np

from loomax.agents.rl import losses
from loomax.agents.rl.loss_config import GRPOLossConfig, PPOLossConfig
from loomax.agents.rl.masks import active_dims, element_mask


def test_loss_weights_by_hand():
    # [T 2, C 2, B 2]: environment 0 ends at its 1st step for good; environment 1 plays on.
    valid = jnp.asarray([[[1, 1], [0, 1]], [[0, 1], [0, 1]]], bool)
    done = jnp.asarray([[[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
    plain, equal = PPOLossConfig(), PPOLossConfig(length_normalise=True)
    np.testing.assert_array_equal(losses.loss_weights(plain, "action", valid, done), valid)
    np.testing.assert_array_equal(
        losses.loss_weights(plain, "chunk", valid, done), [[1, 1], [0, 1]]
    )
    # 3 chunks, 2 episodes: 1.5 each.
    np.testing.assert_array_equal(
        losses.loss_weights(equal, "chunk", valid, done), [[1.5, 0.75], [0, 0.75]]
    )
    # 5 steps, 2 episodes: 2.5 each.
    np.testing.assert_allclose(
        losses.loss_weights(equal, "action", valid, done)[..., 1], [[0.625] * 2] * 2
    )
    keep = jnp.asarray([False, True])
    np.testing.assert_array_equal(
        losses.loss_weights(equal, "chunk", valid, done, keep), [[0, 1], [0, 1]]
    )


def test_length_normalised_loss_is_the_mean_of_episode_means():
    valid = jnp.asarray([[1, 1], [1, 0], [1, 0]], bool)[:, None]
    done = jnp.zeros((3, 1, 2), bool).at[2, 0, 0].set(True).at[0, 0, 1].set(True)
    config = GRPOLossConfig(length_normalise=True)
    weight = losses.loss_weights(config, "chunk", valid, done).reshape(-1)
    zeros = jnp.zeros((6, 1, 1))
    mask = element_mask(valid.transpose(0, 2, 1).reshape(6, 1), active_dims(1, 1, 1, 1))
    # Episode 0 has advantages 1, 2, 6 (mean 3); episode 1 has 10.
    advantage = jnp.asarray([1.0, 10.0, 2.0, 99.0, 6.0, 99.0])
    loss, _ = losses.grpo_loss(config, losses.PolicyBatch(zeros, zeros, advantage, mask, weight))
    np.testing.assert_allclose(loss, -(3 + 10) / 2, rtol=1e-6)
