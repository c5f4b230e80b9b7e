"""Times and noisy actions of flow matching."""

import jax
import jax.numpy as jnp
import numpy as np

from loomax.models.flow_vla.loss import noisy_actions, sample_time


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
