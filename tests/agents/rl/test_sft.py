"""Supervised fitting: padding, the flow-matching loss at its minimum, and a linear fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.rl.config import FitConfig
from loomax.agents.rl.fit import Fitter
from loomax.agents.rl.sft import flow_matching_loss, pad_actions
from loomax.runtime.mesh import MeshConfig, make_mesh


def test_padding_marks_what_is_real():
    actions = jnp.arange(8.0).reshape(2, 2, 2) + 1
    valid = jnp.array([[True, False], [True, True]])
    padded, mask = pad_actions(actions, valid, 3, 4)
    assert padded.shape == mask.shape == (2, 3, 4)
    np.testing.assert_array_equal(padded[1, :2, :2], actions[1])
    assert padded.sum() == actions.sum()
    np.testing.assert_array_equal(mask[0], [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(mask[1], [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])


class Exact:
    """The velocity field of a known target, (x - target) / t, plus an error."""

    horizon, action_dim, critic = 3, 2, "none"

    def __init__(self, target, error):
        self.target, self.error = target, error

    def encode(self, params, obs):
        raise AssertionError("contexts are encoded before")

    def velocity(self, params, context, x, t):
        return (x - self.target) / t[:, None, None] + self.error, x

    def noise_std(self, params, hidden):
        raise AssertionError

    def value(self, params, context, privileged, hidden):
        raise AssertionError


def test_the_exact_field_costs_nothing_and_an_error_its_square(key):
    target = jax.random.normal(jax.random.key(1), (64, 3, 2))
    mask = jnp.ones((64, 3, 2)).at[:, 2].set(0.0)
    exact = flow_matching_loss(
        Exact(target, 0.0), {}, None, target, mask, key=jax.random.clone(key)
    )
    np.testing.assert_allclose(exact, 0, atol=1e-6)
    error = jnp.array([[0.5, -1.0]] * 2 + [[1e3, 1e3]])
    wrong = flow_matching_loss(Exact(target, error), {}, None, target, mask, key=key)
    np.testing.assert_allclose(wrong, (0.25 + 1.0) / 2, rtol=1e-3)


@pytest.fixture(scope="module")
def fitted():
    """y = x W, fitted on two devices."""
    wanted = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    x = jax.random.normal(jax.random.key(0), (200, 2))
    start, logged = {"w": jnp.zeros((2, 2))}, []

    def loss(params, fixed, batch, *, key):
        given, target = batch
        value = jnp.square(given @ params["w"] - target).mean()
        return value, {"loss": value}

    config = FitConfig(steps=400, batch=32, lr=0.05, log_every=200)
    fitter = Fitter(config, loss, make_mesh(MeshConfig(), jax.devices()[:2]))

    def run():
        log = lambda step, metrics: logged.append((step, float(metrics["loss"])))  # noqa: E731
        return fitter.run(start, (x, x @ wanted), on_log=log, key=jax.random.key(1))

    return run(), run(), wanted, start, logged


def test_a_linear_map_is_found(fitted):
    params, _, wanted, start, logged = fitted
    np.testing.assert_allclose(params["w"], wanted, atol=0.02)
    assert [step for step, _ in logged[:2]] == [200, 400] and logged[1][1] < logged[0][1]
    # The caller's parameters outlive the donated ones.
    assert not start["w"].any()


def test_fitting_again_gives_the_same_bits(fitted):
    one, other, *_ = fitted
    np.testing.assert_array_equal(one["w"], other["w"])
