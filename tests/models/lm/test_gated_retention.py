"""The mixer of gated retention: mix and output in one, and keys that are added before they turn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import RopeConfig, create
from loomax.models.lm.mixers import gated_retention
from loomax.models.lm.presets import yoco_debug
from loomax.models.lm.span import Span, positions

CONFIG = yoco_debug()
SPAN = Span(jnp.array([0, 5]), jnp.array([11, 7]))


def layer(config):
    """One layer's parameters, a block of tokens and a state."""
    stacked = create(config, key=jax.random.key(0))["self_layers"]["mixer"]
    x = jax.random.normal(jax.random.key(1), (2, 11, config.width))
    state = gated_retention.empty(config, 2, 0)
    state = jax.random.normal(jax.random.key(2), state.shape)
    return jax.tree.map(lambda leaf: leaf[0], stacked), x, state


@pytest.mark.parametrize("theta", [10_000.0, 0.0], ids=["rotated", "none"])
def test_together_is_mix_and_output(theta):
    config = replace(CONFIG, rope=RopeConfig(theta=theta))
    p, x, state = layer(config)

    def both(state):
        given = gated_retention.inputs(config, p, x, positions(SPAN, 11))
        y, after = gated_retention.mix(config, state, given, SPAN)
        apart = gated_retention.output(config, p, x, y), after
        return apart, gated_retention.together(config, p, x, state, given, SPAN)

    for start in (state, None):
        (want, last), (got, after) = jax.jit(both)(start)
        assert (after is None) == (start is None)
        real = np.arange(11) < np.array(SPAN.count)[:, None]
        np.testing.assert_allclose(got[real], want[real], atol=1e-5)
        if start is not None:
            np.testing.assert_allclose(after, last, atol=1e-6)


@pytest.mark.parametrize("theta", [10_000.0, 0.0], ids=["rotated", "none"])
def test_padding_leaves_the_state(theta):
    """The second row's state after 7 real tokens of 11 is that of 7 tokens alone."""
    config = replace(CONFIG, rope=RopeConfig(theta=theta))
    p, x, state = layer(config)

    def after(x, state, span):
        given = gated_retention.inputs(config, p, x, positions(span, x.shape[1]))
        return gated_retention.mix(config, state, given, span)[1]

    got = jax.jit(after)(x, state, SPAN)
    alone = jax.jit(after)(x[1:, :7], state[1:], Span(SPAN.start[1:], SPAN.count[1:]))
    np.testing.assert_allclose(got[1:], alone, atol=1e-6)
