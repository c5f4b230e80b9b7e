"""The flow-matching loss."""

import jax
import jax.numpy as jnp
import numpy as np

from loomax.models.flow_vla.loss import flow_loss, masked_error, noisy_actions, sample_time
from loomax.models.flow_vla.prefix import encode_prefix
from loomax.models.flow_vla.suffix import velocity


def test_time_has_the_papers_distribution(key):
    t = (np.asarray(sample_time(40_000, key=key), np.float64) - 0.001) / 0.999
    assert t.min() >= 0 and t.max() <= 1
    # Beta(1.5, 1) has the distribution function t^1.5; Kolmogorov-Smirnov at 0.1 %.
    t.sort()
    gap = np.abs(t**1.5 - (np.arange(t.size) + 0.5) / t.size).max()
    assert gap < 1.95 / t.size**0.5


def test_ends_of_the_path(key):
    actions, noise = jax.random.normal(key, (2, 2, 3, 4))
    at_zero, target = noisy_actions(actions, noise, jnp.zeros(2))
    at_one, _ = noisy_actions(actions, noise, jnp.ones(2))
    np.testing.assert_allclose(at_zero, actions)
    np.testing.assert_allclose(at_one, noise)
    np.testing.assert_allclose(at_one - target, actions, atol=1e-6)


def test_loss_is_the_masked_mean_square(policy, observation, key):
    shape = (3, policy.config.horizon, policy.config.action_dim)
    a_key, n_key, loss_key = jax.random.split(key, 3)
    actions, noise = jax.random.normal(a_key, shape), jax.random.normal(n_key, shape)
    time = jnp.array([0.1, 0.5, 0.9])
    mask = (jnp.arange(shape[1]) < 2)[:, None] & (jnp.arange(shape[2]) < 5)
    prefix = encode_prefix(policy, observation)
    spread = time[:, None, None]
    x = spread * noise + (1 - spread) * actions
    v, _ = velocity(policy, prefix, observation["state"], x, time)
    error = np.square(np.asarray(v, np.float64) - np.asarray(noise - actions, np.float64))

    def loss(actions, mask):
        return flow_loss(
            policy,
            observation,
            actions,
            key=jax.random.clone(loss_key),
            time=time,
            noise=noise,
            mask=mask,
        )

    np.testing.assert_allclose(loss(actions, None), error.mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(loss(actions, mask), error[:, :2, :5].mean((1, 2)), rtol=1e-4)
    assert not np.any(loss(actions, jnp.zeros(shape, bool)))


def test_padded_targets_leave_no_gradient(policy, observation, key):
    """The padded part of the target only enters through the noisy input, never as an error."""
    shape = (3, policy.config.horizon, policy.config.action_dim)
    mask = jnp.broadcast_to(jnp.arange(shape[2]) < 5, shape)

    def loss(target):
        return masked_error(jnp.zeros(shape), target, mask).sum()

    gradient = jax.grad(loss)(jax.random.normal(key, shape))
    assert not np.any(gradient[..., 5:]) and np.all(gradient[..., :5] != 0)
