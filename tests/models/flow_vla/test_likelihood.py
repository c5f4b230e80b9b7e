"""Likelihoods of stored chains against NumPy float64 and finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.flow_vla.likelihood import (
    chain_log_prob,
    normal_entropy,
    normal_log_prob,
    reduce_elements,
)
from loomax.models.flow_vla.sampler import SamplerConfig, sample_chain
from tests.models.flow_vla import reference

SHAPE = (5, 3, 2)
WEIGHT, BIAS = 0.7, -0.2
CONFIGS = {
    "sde-one": SamplerConfig("sde", 4, 0.5),
    "sde-all": SamplerConfig("sde", 4, 0.5, stochastic="all"),
    "sde-scan": SamplerConfig("sde", 4, 0.5, stochastic="all", fold="scan"),
    "cps-one": SamplerConfig("cps", 4, 0.5),
    "cps-all": SamplerConfig("cps", 4, 0.5, stochastic="all"),
    "noise": SamplerConfig("noise", 4),
    "noise-mean": SamplerConfig("noise", 4, steps_reduction="mean", include_start=True),
    "noise-scan": SamplerConfig("noise", 3, fold="scan"),
}


def velocity_with(weight, bias):
    def velocity(x, t):
        return weight * x * (1 + t[:, None, None]) + bias, jnp.sin(x)

    return velocity


def noise_std(hidden):
    return 0.1 + 0.05 * jnp.tanh(hidden)


@pytest.fixture(scope="module", params=CONFIGS)
def sampled(request):
    """(config, sampled chain, the chain with its batch axis first)."""
    config = CONFIGS[request.param]
    keys = jax.random.split(jax.random.key(3), 3)
    chain = sample_chain(
        config,
        velocity_with(WEIGHT, BIAS),
        noise_std,
        jax.random.normal(keys[0], SHAPE),
        stochastic_index=config.draw_index(SHAPE[0], key=keys[1]),
        key=keys[2],
    )
    return config, chain, jnp.moveaxis(chain.xs, 0, 1)


def likelihood(config, stored, index, weight=WEIGHT, bias=BIAS):
    return chain_log_prob(config, velocity_with(weight, bias), noise_std, stored, index)


def expected(config, stored, index, weight=WEIGHT, bias=BIAS):
    """Log-density and entropy by loops over samples and steps, in float64."""
    stored = np.asarray(stored, np.float64)
    log_prob, entropy = np.zeros(SHAPE), np.zeros(SHAPE)
    for b in range(SHAPE[0]):
        for k in [int(index[b])] if config.single else range(config.steps):
            x, t = stored[b, k], (config.steps - k) / config.steps
            v = weight * x * (1 + t) + bias
            learned = 0.1 + 0.05 * np.tanh(np.sin(x))
            mean, std = reference.step(
                config.kind, x, v, k, config.steps, config.noise_level, learned
            )
            log_prob[b] += reference.log_density(stored[b, k + 1], mean, std)
            entropy[b] += reference.entropy(std)
    if config.single:
        return log_prob, entropy
    count = config.steps
    if config.include_start:
        log_prob += reference.log_density(stored[:, 0], np.zeros(SHAPE), np.ones(SHAPE))
        entropy += reference.entropy(np.ones(SHAPE))
        count += 1
    scale = 1 / count if config.steps_reduction == "mean" else 1.0
    return log_prob * scale, entropy * scale


def test_log_prob_and_entropy_equal_the_reference(sampled):
    config, chain, stored = sampled
    ours = likelihood(config, stored, chain.index)
    log_prob, entropy = expected(config, stored, chain.index)
    np.testing.assert_allclose(ours.log_prob, log_prob, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.entropy, entropy, rtol=1e-5, atol=1e-5)
    assert np.abs(log_prob).max() > 0.1


def test_recomputed_likelihood_is_the_stored_one(sampled):
    config, chain, stored = sampled
    ours = likelihood(config, stored, chain.index)
    np.testing.assert_allclose(ours.log_prob, chain.log_prob, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.hidden, chain.hidden, atol=1e-5)


def test_gradient_equals_finite_differences(sampled):
    config, chain, stored = sampled

    def total(parameters):
        return likelihood(config, stored, chain.index, *parameters).log_prob.sum()

    gradient = jax.grad(total)(jnp.array([WEIGHT, BIAS]))
    h = 1e-5
    for i, step in enumerate(h * np.eye(2)):
        ends = [
            expected(config, stored, chain.index, WEIGHT + s * step[0], BIAS + s * step[1])[0].sum()
            for s in (1, -1)
        ]
        np.testing.assert_allclose(gradient[i], (ends[0] - ends[1]) / (2 * h), rtol=2e-3)


def test_folding_and_scanning_agree(sampled):
    config, chain, stored = sampled
    other = "batch" if config.fold == "scan" else "scan"
    ours = likelihood(config, stored, chain.index)
    theirs = likelihood(dataclasses.replace(config, fold=other), stored, chain.index)
    np.testing.assert_allclose(ours.log_prob, theirs.log_prob, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.hidden, theirs.hidden, atol=1e-5)


def test_density_and_entropy_of_edge_cases():
    x, std = jnp.array([0.3, -2.0, 5.0]), jnp.array([0.5, 1e-3, 0.0])
    np.testing.assert_allclose(
        normal_log_prob(x, 0.0, std), reference.log_density(x, np.zeros(3), std), rtol=1e-5
    )
    np.testing.assert_allclose(normal_entropy(std), reference.entropy(std), rtol=1e-5)
    gradient = jax.grad(lambda s: (normal_log_prob(x, 0.0, s) + normal_entropy(s)).sum())(std)
    assert np.all(np.isfinite(gradient)) and gradient[2] == 0


def test_reductions_by_hand():
    values = jnp.arange(12.0).reshape(1, 3, 4)
    mask = jnp.array([[True], [True], [False]]) & jnp.array([True, True, False, True])
    assert reduce_elements(values, mask).tolist() == [0 + 1 + 3 + 4 + 5 + 7]
    assert reduce_elements(values, mask, how="mean").tolist() == pytest.approx([20 / 6])
    assert reduce_elements(values, mask, over="action").tolist() == [[4.0, 16.0, 0.0]]
    mean = reduce_elements(values, mask, over="action", how="mean")
    np.testing.assert_allclose(mean, [[4 / 3, 16 / 3, 0]], rtol=1e-6)
    assert reduce_elements(values, mask, over="token").sum() == 20


def test_masked_elements_leave_no_trace():
    """Not in the value and not in the gradient, even where they are not finite."""
    x = jnp.array([[[0.5, jnp.inf], [1.0, jnp.nan]]])
    mask = jnp.array([True, False])

    def loss(mean):
        return reduce_elements(normal_log_prob(jnp.where(mask, x, 0.0), mean, 0.5), mask).sum()

    gradient = jax.grad(loss)(jnp.zeros(x.shape))
    assert np.all(gradient[..., 1] == 0) and np.all(gradient[..., 0] != 0)
    assert np.isfinite(reduce_elements(x, mask)).all()


def test_bad_chains_are_refused():
    config = SamplerConfig("sde", 4)
    with pytest.raises(ValueError, match=r"3 entries, expected steps \+ 1 = 5"):
        likelihood(config, jnp.zeros((5, 3, 3, 2)), jnp.zeros((5,), jnp.int32))
    with pytest.raises(ValueError, match="deterministic"):
        likelihood(SamplerConfig("ode", 4), jnp.zeros((5, 5, 3, 2)), jnp.zeros((5,), jnp.int32))
