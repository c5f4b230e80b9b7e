"""Losses against their definitions in NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.nas.train.config import DistillConfig
from loomax.nas.train.losses import (
    adaptive_divergence,
    alpha_divergence,
    cross_entropy,
    label_targets,
    net_loss,
    ramp,
)

RNG = np.random.default_rng(0)
LOGITS, TEACHER = RNG.normal(0, 2, (6, 5)), RNG.dirichlet(np.ones(5), 6)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(z, p, alpha):
    q = softmax(z)
    if alpha == 1:
        return (p * np.log(p / q)).sum(-1)
    return (p**alpha * q ** (1 - alpha)).sum(-1) / (alpha * (alpha - 1)) - 1 / (alpha * (alpha - 1))


def slopes(function, z):
    return jax.grad(lambda z: function(z).sum())(jnp.asarray(z, jnp.float32))


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.5, 1.0, 2.0])
def test_the_divergence_and_its_gradient(alpha):
    given = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(TEACHER, jnp.float32)
    ours = alpha_divergence(*given, alpha, 1e9)
    np.testing.assert_allclose(ours, divergence(LOGITS, TEACHER, alpha), rtol=2e-4, atol=1e-5)
    step = 1e-5
    numeric = np.zeros_like(LOGITS)
    for row, column in np.ndindex(LOGITS.shape):
        moved = np.zeros_like(LOGITS)
        moved[row, column] = step
        up, down = (divergence(LOGITS + s * moved, TEACHER, alpha).sum() for s in (1, -1))
        numeric[row, column] = (up - down) / (2 * step)
    got = slopes(lambda z: alpha_divergence(z, given[1], alpha, 1e9), LOGITS)
    np.testing.assert_allclose(got, numeric, rtol=2e-3, atol=2e-4)


def test_a_large_weight_is_held():
    """Without a bound the weight (p / q)^-1 of a class that the teacher rules out is huge."""
    z, p = np.array([[3.0, 0.0, 0.0]]), np.array([[1e-6, 0.5, 0.5 - 1e-6]])
    q = softmax(z)
    weights = q * np.minimum(q / p, 5.0)
    expected = weights - q * weights.sum(-1, keepdims=True)
    got = slopes(lambda z: alpha_divergence(z, jnp.asarray(p, jnp.float32), -1.0, 5.0), z)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_each_image_takes_the_larger_divergence():
    given = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(TEACHER, jnp.float32)
    low, high = divergence(LOGITS, TEACHER, -1), divergence(LOGITS, TEACHER, 1)
    assert (low > high).any() and (low < high).any()
    ours = adaptive_divergence(*given, (-1.0, 1.0), 1e9)
    np.testing.assert_allclose(ours, np.maximum(low, high), rtol=2e-4, atol=1e-5)


def test_cross_entropy_with_smoothed_labels():
    labels = np.array([0, 4, 2, 2, 1, 3])
    targets = np.full((6, 5), 0.02)
    targets[np.arange(6), labels] += 0.9
    ours = label_targets(jnp.asarray(labels), 5, 0.1)
    np.testing.assert_allclose(ours, targets, atol=1e-7)
    expected = -(targets * np.log(softmax(LOGITS))).sum(-1)
    np.testing.assert_allclose(
        cross_entropy(jnp.asarray(LOGITS, jnp.float32), ours), expected, rtol=1e-5
    )


@pytest.mark.parametrize(("step", "share"), [(0, 0), (9, 0), (10, 0.25), (12, 0.75), (99, 1)])
def test_distillation_begins_late(step, share):
    assert float(ramp(jnp.int32(step), 10, 4)) == share


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("learns", [False, True])
def test_what_a_net_is_trained_on(learns, taught):
    """Students mix labels and divergence; others labels and the teacher network's beliefs."""
    given = [jnp.asarray(a, jnp.float32) for a in (LOGITS, TEACHER)]
    hard, other = jnp.arange(6.0), RNG.dirichlet(np.ones(5), 6)
    config = DistillConfig(in_place=0.8, teacher_share=0.3, clip=1e9)
    soft = jnp.asarray(other, jnp.float32) if taught else None
    ours = net_loss(given[0], hard, soft, given[1], jnp.asarray(learns), jnp.float32(0.5), config)
    low, high = divergence(LOGITS, TEACHER, -1), divergence(LOGITS, TEACHER, 1)
    expected = np.arange(6.0)
    if learns:
        expected = 0.6 * expected + 0.4 * np.maximum(low, high)
    elif taught:
        expected = 0.7 * expected - 0.3 * (other * np.log(softmax(LOGITS))).sum(-1)
    np.testing.assert_allclose(ours, expected, rtol=5e-4, atol=1e-5)
