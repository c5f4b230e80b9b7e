"""Whole models against NumPy in float64 (`reference`), every family and its options."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import DeltaConfig, RopeConfig, create, empty_cache, extend, logits
from loomax.models.lm.config import MLAConfig
from loomax.models.lm.presets import transformer_debug, yoco_debug
from tests.models.lm import reference
from tests.models.lm.conftest import KINDS, quick_jit

DELTA = yoco_debug("gated_deltanet")
YOCO_ROPE = RopeConfig(theta=100.0, spacing="yoco")
MODELS = KINDS | {
    "yoco's own exponents": replace(yoco_debug(), rope=YOCO_ROPE, tau=2.0, norm_epsilon=0.05),
    "values twice as wide, learned norm, negative eigenvalues": replace(
        DELTA, delta=DeltaConfig(2.0, output_norm=True, negative=True), norm_epsilon=0.02
    ),
    "values half as wide": replace(DELTA, delta=DeltaConfig(0.5), conv=2),
    "every head its own keys": replace(transformer_debug(), kv_heads=4, tied=True),
    "one key head": replace(transformer_debug(), kv_heads=1, rope=RopeConfig(theta=0.0)),
    "small latent": replace(
        transformer_debug("mla"), mla=MLAConfig(6, 4, 6, 10), norm_epsilon=0.05
    ),
    "window of a layer with shares": replace(yoco_debug("sliding_window"), kv_residual=True),
}
LENGTH = 13


def drawn(config):
    """Parameters in which nothing is 0 or 1 that would hide a fault."""
    params = create(config, key=jax.random.key(3))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    moved = [
        leaf + 0.2 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_the_formulas(name):
    config = MODELS[name]
    params = drawn(config)
    tokens = np.random.default_rng(0).integers(0, config.vocab, (2, LENGTH))
    got = quick_jit(partial(logits, config))(params, jnp.asarray(tokens))
    for row, found in zip(tokens, got, strict=True):
        want = reference.logits(config, params, row)
        assert np.abs(want).max() > 1.0
        np.testing.assert_allclose(found, want, atol=5e-5 * np.abs(want).max())


NEW = [name for name in MODELS if "values" in name]


@pytest.mark.parametrize("name", NEW)
def test_a_step_at_a_time_gives_the_same(name):
    """The recurrent state of Gated DeltaNet's options, a block and then token by token."""
    config = MODELS[name]
    params = drawn(config)
    tokens = np.random.default_rng(1).integers(0, config.vocab, (1, LENGTH))
    want = reference.logits(config, params, tokens[0])
    step = quick_jit(partial(extend, config))
    cache = empty_cache(config, 1, LENGTH)
    begin = 0
    for end in (6, 7, 8, LENGTH):
        found, cache = step(params, cache, jnp.asarray(tokens[:, begin:end]))
        np.testing.assert_allclose(found[0], want[end - 1], atol=5e-5 * np.abs(want).max())
        begin = end
