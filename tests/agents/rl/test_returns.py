"""Advantages against float64 sums over single episodes, by hand, and over devices."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loomax.agents.rl import returns
from loomax.agents.rl.loss_config import CreditConfig, GroupConfig
from loomax.agents.rl.masks import step_validity

T, C, B = 4, 3, 4
GAMMA, LAM = 0.9, 0.7
BOOTSTRAPS = ("truncation", "always", "none")


def rollout(seed, shape, rate):
    """Random rewards, values and ends; a step may be terminated and truncated at once."""
    rng = np.random.default_rng(seed)
    numbers = [rng.normal(size=shape).astype(np.float32) for _ in range(3)]
    return *numbers, rng.random(shape) < rate, rng.random(shape) < rate


def on_device(*arrays):
    return tuple(map(jnp.asarray, arrays))


def continues(terminated, truncated, bootstrap):
    if not (terminated or truncated) or bootstrap == "always":
        return True
    return bootstrap == "truncation" and not terminated


def brute_gae(data, valid, bootstrap, gamma=GAMMA, lam=LAM):
    """A_t = sum over later steps k of the same episode of (gamma lam)^(k - t) delta_k, float64."""
    rewards, values, following = (x.astype(np.float64) for x in data[:3])
    terminated, truncated = data[3:]
    advantages = np.zeros(rewards.shape)
    for b in range(rewards.shape[1]):
        steps = [t for t in range(rewards.shape[0]) if valid[t, b]]
        for i, t in enumerate(steps):
            factor = 1.0
            for k in steps[i:]:
                boot = continues(terminated[k, b], truncated[k, b], bootstrap)
                delta = rewards[k, b] + gamma * boot * following[k, b] - values[k, b]
                advantages[t, b] += factor * delta
                factor *= gamma * lam
                if terminated[k, b] or truncated[k, b]:
                    break
    return advantages


jitted_gae = jax.jit(returns.gae, static_argnames=("bootstrap", "gamma", "lam"))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 0.6]), st.sampled_from(BOOTSTRAPS))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_gae_equals_brute_force(seed, rate, bootstrap):
    data = rollout(seed, (T * C, B), rate)
    got, targets = jitted_gae(*data, gamma=GAMMA, lam=LAM, bootstrap=bootstrap)
    want = brute_gae(data, np.ones((T * C, B), bool), bootstrap)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets, want + data[1], rtol=1e-5, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from(BOOTSTRAPS), st.booleans())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_chunk_level_credit_equals_brute_force_with_resets_inside_chunks(
    seed, bootstrap, auto_reset
):
    rewards, _, _, terminated, truncated = rollout(seed, (T, C, B), 0.15)
    _, values, following, *_ = rollout(seed + 1, (T, B), 0.0)
    valid = np.asarray(step_validity(jnp.asarray(terminated | truncated), auto_reset))
    config = CreditConfig(gamma=GAMMA, lam=LAM, bootstrap=bootstrap, normalise=False)
    dirty = np.where(valid, rewards, np.inf)
    got, _ = returns.credit(
        config, *on_device(dirty, values, following, terminated, truncated, valid)
    )
    chunks = (
        np.where(valid, rewards, 0).sum(axis=1),
        values,
        following,
        (terminated & valid).any(axis=1),
        (truncated & valid).any(axis=1),
    )
    want = brute_gae(chunks, valid.any(axis=1), bootstrap)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def one_step(terminated, truncated, bootstrap):
    """An end at the first of two steps: r = 1, 10; V = 2, 3; V(next) = 5, 7; gamma 0.5."""
    column = lambda *x: jnp.asarray(x)[:, None]  # noqa: E731
    got, targets = returns.gae(
        column(1.0, 10.0),
        column(2.0, 3.0),
        column(5.0, 7.0),
        column(terminated, False),
        column(truncated, False),
        0.5,
        0.8,
        bootstrap=bootstrap,
    )
    # The last step never ended: 10 + 0.5 * 7 - 3 = 10.5 in every mode.
    assert float(got[1, 0]) == 10.5
    assert float(targets[0, 0]) == float(got[0, 0]) + 2.0
    return float(got[0, 0])


@pytest.mark.parametrize(
    ("terminated", "truncated", "bootstrap", "advantage"),
    [
        # 1 - 2 without, 1 + 0.5 * 5 - 2 with the value of the final observation.
        (True, False, "truncation", -1.0),
        (False, True, "truncation", 1.5),
        (True, True, "truncation", -1.0),
        (True, False, "always", 1.5),
        (False, True, "always", 1.5),
        (True, False, "none", -1.0),
        (False, True, "none", -1.0),
    ],
)
def test_bootstrap_at_an_end_by_hand(terminated, truncated, bootstrap, advantage):
    assert one_step(terminated, truncated, bootstrap) == advantage


@pytest.mark.parametrize("bootstrap", BOOTSTRAPS)
def test_without_an_end_the_trace_goes_on(bootstrap):
    # 1 + 0.5 * 5 - 2 + 0.5 * 0.8 * 10.5
    assert one_step(False, False, bootstrap) == pytest.approx(1.5 + 4.2)


def test_a_step_that_was_not_taken_is_skipped():
    three = lambda *x: jnp.asarray(x)[:, None]  # noqa: E731
    no = jnp.zeros((3, 1), bool)
    got, targets = returns.gae(
        three(1.0, jnp.nan, 10.0),
        three(2.0, jnp.nan, 3.0),
        three(5.0, jnp.nan, 7.0),
        no,
        no,
        0.5,
        0.8,
        valid=no.at[0].set(True).at[2].set(True),
    )
    # As without the middle row: 1 + 0.5 * 5 - 2 + 0.5 * 0.8 * 10.5.
    np.testing.assert_allclose(got[:, 0], [5.7, 0.0, 10.5], rtol=1e-6)
    np.testing.assert_allclose(targets[:, 0], [7.7, 0.0, 13.5], rtol=1e-6)


def test_a_bad_number_stays_in_its_episode():
    rewards = jnp.asarray([[1.0], [jnp.nan]])
    zeros, no = jnp.zeros((2, 1)), jnp.zeros((2, 1), bool)
    got, _ = returns.gae(rewards, zeros, zeros, no.at[0].set(True), no, 0.9, 0.9)
    assert float(got[0, 0]) == 1.0 and bool(jnp.isnan(got[1, 0]))


def test_normalise_equals_float64_over_valid_entries():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, (6, 8)).astype(np.float32)
    mask = rng.random((6, 8)) < 0.6
    got = returns.normalise(jnp.where(mask, x, jnp.nan), jnp.asarray(mask))
    kept = x[mask].astype(np.float64)
    np.testing.assert_allclose(
        np.asarray(got)[mask], (kept - kept.mean()) / (kept.std() + 1e-5), rtol=1e-5, atol=1e-6
    )
    assert (np.asarray(got)[~mask] == 0).all()


def test_normalise_of_nothing_or_of_equals_is_zero():
    x = jnp.full((2, 2), 3.0)
    assert (returns.normalise(x, jnp.zeros((2, 2), bool)) == 0).all()
    assert (returns.normalise(x, jnp.ones((2, 2), bool)) == 0).all()


def test_normalisation_is_the_same_on_one_and_eight_devices():
    assert len(jax.devices()) == 8
    rng = np.random.default_rng(1)
    # Every device holds another mean and scale, so statistics of a device would differ.
    scale = np.repeat(np.arange(1, 9), 2)
    x = (rng.normal(size=(5, 16)) * scale + 10 * scale).astype(np.float32)
    mask = rng.random((5, 16)) < 0.7
    one = jax.jit(returns.normalise)(*on_device(x, mask))
    mesh = Mesh(np.array(jax.devices()), ("fsdp",))
    split = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    put = jax.device_put((x, mask), split)
    eight = jax.jit(returns.normalise, out_shardings=split)(*put)
    assert len(eight.sharding.device_set) == 8
    np.testing.assert_allclose(eight, one, rtol=1e-6, atol=1e-6)
    local = returns.normalise(*on_device(x[:, :2], mask[:, :2]))
    assert np.abs(np.asarray(local) - np.asarray(one)[:, :2]).max() > 0.1


def test_group_advantages_by_hand():
    # Groups (1, 3), unbiased std sqrt(2), and (0, 0).
    got, keep = returns.group_advantages(jnp.asarray([1.0, 3.0, 0.0, 0.0]), 2)
    half = 1 / (np.sqrt(2) + 1e-6)
    np.testing.assert_allclose(got, [-half, half, 0, 0], rtol=1e-6)
    assert keep.all()


def test_group_advantages_equal_float64():
    r = np.random.default_rng(2).normal(5, 2, (3, 8)).astype(np.float32)
    got, _ = returns.group_advantages(jnp.asarray(r.ravel()), 8)
    r = r.astype(np.float64)
    want = (r - r.mean(1, keepdims=True)) / (r.std(1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(got, want.ravel(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [0.1, 123.456, -7e5])
def test_equal_returns_give_exactly_no_advantage(value):
    got, _ = returns.group_advantages(jnp.full(9, value, jnp.float32), 3)
    assert (got == 0).all()


def test_group_credit_filters_and_sums_valid_rewards():
    # Four environments, two groups; returns 1, 0 (mean 0.5) and 1, 1 (mean 1, dropped).
    rewards = jnp.zeros((2, 2, 4)).at[1, 0].set(jnp.asarray([1.0, 0.0, 1.0, 1.0]))
    valid = jnp.ones((2, 2, 4), bool).at[1, 1].set(False)
    rewards = rewards.at[1, 1].set(jnp.nan)
    config = GroupConfig(size=2, filter_low=0.1, filter_high=0.9)
    got, keep = returns.group_credit(config, rewards, valid)
    np.testing.assert_array_equal(keep, [1, 1, 0, 0])
    side = 0.5 / (np.sqrt(0.5) + 1e-6)
    np.testing.assert_allclose(got, [side, -side, 0, 0], rtol=1e-6)


def test_credit_normalises_if_the_config_says_so():
    rewards, _, _, terminated, truncated = rollout(3, (T, C, B), 0.1)
    _, values, following, *_ = rollout(4, (T, B), 0.0)
    valid = step_validity(jnp.asarray(terminated | truncated), True)
    data = (*on_device(rewards, values, following, terminated, truncated), valid)
    plain, targets = returns.credit(CreditConfig(normalise=False), *data)
    scaled, same = returns.credit(CreditConfig(eps=0.5), *data)
    live = valid.any(axis=1)
    np.testing.assert_allclose(scaled, returns.normalise(plain, live, eps=0.5), rtol=1e-6)
    np.testing.assert_array_equal(targets, same)


def test_bad_input_is_refused():
    zeros, no = jnp.zeros((2, 3)), jnp.zeros((2, 3), bool)
    # As users call it: the run-time types of the tests would speak first.
    untyped = inspect.unwrap(returns.gae)
    with pytest.raises(ValueError, match="bootstrap='sometimes' must be one of"):
        untyped(zeros, zeros, zeros, no, no, 0.9, 0.9, bootstrap="sometimes")
    with pytest.raises(ValueError, match=r"values has shape \(1, 3\), expected \(2, 3\)"):
        untyped(zeros, zeros[:1], zeros, no, no, 0.9, 0.9)
    with pytest.raises(ValueError, match="5 environments do not divide into groups of 2"):
        returns.group_advantages(jnp.zeros(5), 2)
    with pytest.raises(ValueError, match="values has shape"):
        data = on_device(*rollout(0, (T, C, B), 0.1))
        inspect.unwrap(returns.credit)(CreditConfig(), *data, jnp.ones((T, C, B), bool))
