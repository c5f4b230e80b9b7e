"""Rollouts of made-up tokens: a question, what the model writes, an observation, an answer."""

import jax
import jax.numpy as jnp
import pytest

from loomax.agents.search.train.grpo.learner import Rollouts
from loomax.models.lm import create

GROUP, LENGTH = 4, 12
# Of each row: question, written, observation, written, padding.
WRITTEN = (0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0)


@pytest.fixture(scope="package")
def small(reinforced):
    """Parameters of the debug configuration's model, and of another policy near them."""
    params = create(reinforced.model, key=jax.random.key(0))
    noise = create(reinforced.model, key=jax.random.key(1))
    return params, jax.tree.map(lambda x, y: x + 0.1 * y, params, noise)


@pytest.fixture(scope="package")
def rollouts(reinforced):
    key, rows = jax.random.key(2), 2 * GROUP
    tokens = jax.random.randint(key, (rows, LENGTH), 3, reinforced.model.vocab)
    written = jnp.broadcast_to(jnp.array(WRITTEN, bool), tokens.shape)
    # One run of the first group wrote less.
    written = written.at[1, 8:].set(False)
    return Rollouts(tokens, written, jnp.array([1.0, 0.0, 0.1, 0.9, 0.0, 0.0, 0.0, 1.0]))
