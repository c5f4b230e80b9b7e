"""Minibatches: every call of every environment once per epoch, in an order of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.update import shuffled_calls, take_calls

CALLS, ENVS, MINIBATCHES = 6, 5, 3


def test_every_call_is_taken_once(key):
    order = np.asarray(shuffled_calls(CALLS, ENVS, MINIBATCHES, key=key))
    assert order.shape == (MINIBATCHES, CALLS // MINIBATCHES, ENVS)
    columns = order.reshape(CALLS, ENVS)
    np.testing.assert_array_equal(np.sort(columns, axis=0), np.arange(CALLS)[:, None].repeat(5, 1))
    # Environments are shuffled apart from each other.
    assert len(np.unique(columns, axis=1).T) > 1


def test_another_key_is_another_order(key):
    one, other = (shuffled_calls(8, 4, 2, key=k) for k in jax.random.split(key))
    assert not np.array_equal(one, other)


def test_calls_that_do_not_divide_are_refused(key):
    with pytest.raises(ValueError, match="6 policy calls do not divide into 4 minibatches"):
        shuffled_calls(6, 5, 4, key=key)


def test_taking_flattens_environment_major():
    data = {"x": jnp.arange(6 * 2 * 3).reshape(6, 2, 3), "y": jnp.arange(12).reshape(6, 2)}
    index = jnp.array([[4, 0], [1, 5]])
    taken = take_calls(data, index)
    np.testing.assert_array_equal(taken["y"], [8, 2, 1, 11])
    np.testing.assert_array_equal(taken["x"][:, 0], [24, 6, 3, 33])
