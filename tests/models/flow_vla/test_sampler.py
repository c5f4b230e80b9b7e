"""Step distributions, marginals and chains against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.flow_vla.sampler import (
    SamplerConfig,
    sample_chain,
    step_distribution,
    step_times,
)
from tests.models.flow_vla import reference

MEAN, STD, COUNT = 1.5, 0.4, 40_000
KINDS = ("ode", "sde", "noise", "cps")


def gaussian_velocity(x, t):
    """E[noise - action | x_t] when actions are N(MEAN, STD^2), one number each."""
    t = t[:, None, None]
    variance = (1 - t) ** 2 * STD**2 + t**2
    z = (x - (1 - t) * MEAN) / variance
    return t * z - (MEAN + (1 - t) * STD**2 * z), x


def final_samples(config: SamplerConfig) -> np.ndarray:
    start = jax.random.normal(jax.random.key(11), (COUNT, 1, 1))
    chain = sample_chain(config, gaussian_velocity, None, start, key=jax.random.key(12))
    return np.asarray(chain.xs[-1], np.float64).ravel()


def printed_form(steps: int, level: float) -> np.ndarray:
    """piRL's equations 8-9 as printed: time 0 is noise, velocity action - noise."""
    rng = np.random.default_rng(13)
    x, d = rng.normal(size=COUNT), 1 / steps
    for k in range(steps):
        tau = k / steps
        v, _ = gaussian_velocity(x[:, None, None], np.full((COUNT,), 1 - tau))
        v = -v.ravel()
        # sigma^2 / tau = level^2 / (1 - tau), which is finite at tau = 0.
        variance_over_tau = level**2 / (1 - tau)
        drift = v + variance_over_tau / 2 * (x + (1 - tau) * v)
        x = x + drift * d + np.sqrt(variance_over_tau * tau * d) * rng.normal(size=COUNT)
    return x


def is_target(samples: np.ndarray) -> bool:
    """Whether mean and std are the target's within four standard errors and 1 % of step error."""
    mean_room = 4 * STD / COUNT**0.5 + 0.004
    std_room = 4 * STD / (2 * COUNT) ** 0.5 + 0.004
    return abs(samples.mean() - MEAN) < mean_room and abs(samples.std() - STD) < std_room


@pytest.mark.parametrize(("kind", "level"), [("ode", 0.5), ("sde", 0.5), ("sde", 0.8)])
def test_marginal_is_the_target_for_many_steps(kind, level):
    config = SamplerConfig(kind=kind, steps=400, noise_level=level, stochastic="all")
    assert is_target(final_samples(config))


def test_printed_form_misses_the_target():
    samples = printed_form(400, 0.5)
    assert not is_target(samples)
    assert samples.mean() > 2 * MEAN and samples.std() > 4 * STD


def test_step_error_shrinks():
    errors = []
    for steps in (4, 16, 64):
        samples = final_samples(SamplerConfig("sde", steps, 0.5, stochastic="all"))
        errors.append(abs(samples.mean() - MEAN) + abs(samples.std() - STD))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_one_stochastic_step_keeps_the_target_too():
    config = SamplerConfig(kind="sde", steps=200, noise_level=0.5)
    start = jax.random.normal(jax.random.key(11), (COUNT, 1, 1))
    index = config.draw_index(COUNT, key=jax.random.key(14))
    chain = sample_chain(
        config, gaussian_velocity, None, start, stochastic_index=index, key=jax.random.key(12)
    )
    assert is_target(np.asarray(chain.xs[-1], np.float64).ravel())


def test_standard_deviations_of_four_steps():
    x = jnp.zeros((4, 1, 1))
    _, std = step_distribution(SamplerConfig("sde", 4, 0.5), x, x, jnp.arange(4))
    np.testing.assert_allclose(std.ravel(), [0.5, 0.4330127, 0.25, 0.1443376], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_steps_equal_the_reference(kind, steps, key):
    config = SamplerConfig(kind, steps, 0.6, stochastic="all")
    x_key, v_key, s_key = jax.random.split(key, 3)
    x, v = jax.random.normal(x_key, (2, 3, 2)), jax.random.normal(v_key, (2, 3, 2))
    learned = 0.1 + 0.1 * jax.random.uniform(s_key, x.shape)
    for k in range(steps):
        mean, std = step_distribution(config, x, v, k, learned)
        expected_mean, expected_std = reference.step(kind, x, v, k, steps, 0.6, learned)
        np.testing.assert_allclose(mean, expected_mean, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(std, expected_std, rtol=2e-5, atol=1e-7)


def test_last_cps_step_is_deterministic():
    x = jnp.ones((1, 1, 1))
    for steps in (3, 4, 7, 10):
        _, std = step_distribution(SamplerConfig("cps", steps), x, x, steps - 1)
        assert float(std[0, 0, 0]) == 0.0


def test_steps_mix_per_sample():
    """One step number per sample, and ode where a sample is not stochastic."""
    config = SamplerConfig("sde", 4, 0.5)
    x, v = jnp.ones((4, 1, 1)), jnp.full((4, 1, 1), 0.3)
    here = jnp.array([True, False, True, False])
    mean, std = step_distribution(config, x, v, jnp.arange(4), None, here)
    for k in range(4):
        kind = "sde" if here[k] else "ode"
        expected_mean, expected_std = reference.step(kind, x[k], v[k], k, 4, 0.5)
        np.testing.assert_allclose(mean[k], expected_mean, rtol=1e-5)
        np.testing.assert_allclose(std[k], expected_std, rtol=1e-5)


def test_ode_is_euler(key):
    config = SamplerConfig("ode", 4)
    x = start = jax.random.normal(key, (5, 2, 3))
    chain = sample_chain(config, gaussian_velocity, None, start, key=jax.random.key(1))
    for k, t in enumerate(step_times(config)):
        x = x - 0.25 * gaussian_velocity(x, jnp.full((5,), t))[0]
        np.testing.assert_allclose(chain.xs[k + 1], x, atol=1e-5)
    np.testing.assert_array_equal(chain.xs[0], start)
    assert not np.any(chain.log_prob)


@pytest.mark.parametrize("kind", ["sde", "cps"])
def test_only_the_drawn_step_is_random(kind, key):
    config = SamplerConfig(kind, 4, 0.5)
    start = jax.random.normal(key, (9, 2, 3))
    index = jnp.arange(9) % config.last_step
    chains = [
        sample_chain(
            config, gaussian_velocity, None, start, stochastic_index=index, key=jax.random.key(seed)
        ).xs
        for seed in (1, 2)
    ]
    moved = np.abs(chains[0] - chains[1]).max((2, 3))
    for sample, k in enumerate(np.asarray(index)):
        assert np.all(moved[: k + 1, sample] == 0) and np.all(moved[k + 1 :, sample] > 0)
    for sample, k in enumerate(np.asarray(index)):
        x = chains[0][k, sample]
        v = gaussian_velocity(x[None], jnp.array([1 - k / 4]))[0][0]
        mean, std = reference.step(kind, x, v, int(k), 4, 0.5)
        assert np.abs((chains[0][k + 1, sample] - mean) / std).max() < 5


def test_drawn_steps_differ_between_samples_and_stay_in_range(key):
    whole = SamplerConfig("sde", 4).draw_index(4000, key=key)
    share = np.bincount(whole, minlength=4) / 4000
    assert len(share) == 4 and np.all(np.abs(share - 0.25) < 0.04)
    late = SamplerConfig("sde", 4, first_step=1, ignore_last=True)
    assert set(np.unique(late.draw_index(400, key=jax.random.key(9)))) == {1, 2}
    assert set(np.unique(SamplerConfig("cps", 3).draw_index(400, key=jax.random.key(9)))) == {0, 1}
    assert SamplerConfig("noise").draw_index(4, key=jax.random.key(9)) is None
    assert SamplerConfig("ode").draw_index(4, key=jax.random.key(9)) is None


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"noise_level": -0.1}, "noise_level -0.1"),
        ({"kind": "cps", "noise_level": 1.5}, "noise_level 1.5"),
        ({"std_min": 0.0}, "std_min"),
        ({"kind": "sde", "first_step": 4}, "first_step 4"),
        ({"kind": "cps", "steps": 1}, "no step to draw"),
    ],
)
def test_bad_config_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        SamplerConfig(**changes)


def test_missing_or_needless_arguments_are_refused(key):
    x = jnp.zeros((2, 1, 1))
    with pytest.raises(ValueError, match="needs stochastic_index"):
        sample_chain(SamplerConfig("sde"), gaussian_velocity, None, x, key=key)
    with pytest.raises(ValueError, match="takes no stochastic_index"):
        sample_chain(
            SamplerConfig("ode"), gaussian_velocity, None, x, stochastic_index=jnp.array([0, 1]),
            key=key,
        )  # fmt: skip
    with pytest.raises(ValueError, match="learned std"):
        step_distribution(SamplerConfig("noise"), x, x, 0)
