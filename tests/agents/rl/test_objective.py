"""Masks leave no trace: what is held after an episode's end never reaches a gradient."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.estimates import estimate
from loomax.agents.rl.objective import objective


@pytest.fixture(scope="module", params=["ppo", "grpo"])
def case(request, small, parts_of):
    """A rollout with whole, cut and dead chunks, and the compiled gradient of its objective."""
    config = small(request.param, auto_reset=False, calls=4, chunk=2)
    config = replace(config, env=replace(config.env, horizon=5, radius=0.5))
    parts = parts_of(config)
    trained, frozen = parts.init_params(key=jax.random.key(0))

    def rollout(keys, key):
        act_key, noise_key = jax.random.split(key)
        state, obs = parts.venv.reset(keys)
        _, _, steps = parts.actor.rollout(
            (trained, frozen), state, obs, calls=4, auto_reset=False, key=act_key
        )
        # Ratios other than 1, as in later epochs.
        noise = 0.05 * jax.random.normal(noise_key, steps.log_prob.shape)
        return steps.replace(log_prob=steps.log_prob + noise)

    def gradient(steps):
        pair = (steps, estimate(config.rl, steps))
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), pair)

        def loss(trained):
            params = (trained, frozen)
            return objective(config.rl, parts.policy, params, params, *flat, parts.learner.dims)

        return jax.grad(loss, has_aux=True)(trained)

    keys = jax.random.split(jax.random.key(1), 16)
    return jax.jit(rollout)(keys, jax.random.key(2)), jax.jit(gradient)


def spoilt(steps, value):
    """`value` wherever no executed step of a live episode is behind a number."""
    dead = ~steps.valid.any(-1)

    def bury(x):
        return jnp.where(dead.reshape(*dead.shape, *(1,) * (x.ndim - 2)), value, x)

    floats = ("source", "privileged", "chain", "log_prob", "value", "next_value")
    steps = steps.replace(**{name: bury(getattr(steps, name)) for name in floats})
    return steps.replace(
        reward=jnp.where(steps.valid, steps.reward, value),
        log_prob=jnp.where(steps.valid[..., None], steps.log_prob, value),
        terminated=steps.terminated | dead,
        truncated=steps.truncated | dead,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e20, 7.0])
def test_what_is_masked_leaves_no_trace(case, value):
    steps, gradient = case
    wanted, metrics = gradient(steps)
    valid = np.asarray(steps.valid)
    assert {0, 1, 2} == set(valid.sum(-1).ravel())
    grads, same = gradient(spoilt(steps, value))
    for (path, got), leaf in zip(
        jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(wanted), strict=True
    ):
        np.testing.assert_array_equal(got, leaf, err_msg=jax.tree_util.keystr(path))
        assert np.isfinite(leaf).all()
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted)) > 1e-3
    for name in metrics:
        np.testing.assert_array_equal(same[name], metrics[name], err_msg=name)


def test_what_counts_does_leave_a_trace(case):
    steps, gradient = case
    wanted, _ = gradient(steps)
    first = steps.log_prob.at[0, 0].add(0.1)
    grads, _ = gradient(steps.replace(log_prob=first))
    moved = [float(jnp.abs(a - b).max()) for a, b in
             zip(jax.tree.leaves(grads), jax.tree.leaves(wanted), strict=True)]  # fmt: skip
    assert max(moved) > 1e-5
