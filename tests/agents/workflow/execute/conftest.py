"""A workflow of matrix products on whole numbers: exact in any order, so equal bit by bit."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.workflow.stage import Stage, loop

ITEMS, WIDTH, ROUNDS = 24, 4, 3


def wrapped(x):
    """Small again, so that no sum leaves the whole numbers that float32 holds exactly."""
    return jnp.mod(x, 7)


act = Stage("act", lambda params, obs: wrapped(obs @ params["w"]), resident=(0,))
simulate = Stage("simulate", lambda state, action: (wrapped(state + action), wrapped(state * 2)))
score = Stage("score", lambda obs: obs.sum(-1))
judge = Stage("judge", lambda judge, obs: wrapped(obs @ judge), resident=(0,))


def update(params, moments, obs, reward, opinion):
    step = (obs.T * reward) @ opinion
    moments = wrapped(moments + step)
    return {"w": wrapped(params["w"] + moments)}, moments


train = Stage("train", update, resident=(0, 1), batch_axis=None)


def program(params, moments, critic, state, obs):
    """Two branches after a cycle, joined by a stage that needs the whole batch."""

    def turn(carry):
        state, obs = carry
        return simulate(state, act(params, obs))

    state, obs = loop(turn, (state, obs), ROUNDS)
    params, moments = train(params, moments, obs, score(obs), judge(critic, obs))
    return params, moments, critic, state, obs


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.integers(0, 7, shape), jnp.float32)

    square = WIDTH, WIDTH
    return (
        {"w": draw(*square)},
        draw(*square),
        draw(*square),
        draw(ITEMS, WIDTH),
        draw(ITEMS, WIDTH),
    )


@pytest.fixture
def same():
    """Checks two trees for equality, bit by bit."""

    def check(found, wanted):
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

    return check


@pytest.fixture
def workflow():
    return SimpleNamespace(program=program, items=ITEMS, rounds=ROUNDS)
