"""Whole rows: causality, documents, dtypes and rematerialisation."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.jaxlib_ext import fence
from loomax.memory.schedule.policy import value_names
from loomax.models.lm import create, logits
from loomax.models.lm.config import RESIDUALS
from tests.models.lm.conftest import KINDS, quick_jit

LENGTH = 16


def tokens_of(seed, batch=2, length=LENGTH):
    return jax.random.randint(jax.random.key(seed), (batch, length), 0, 37)


def test_later_tokens_change_nothing_before(full):
    tokens = tokens_of(0)
    changed = tokens.at[:, 9:].set((tokens[:, 9:] + 1) % 37)
    before, after = full(tokens), full(changed)
    np.testing.assert_allclose(before[:, :9], after[:, :9], atol=1e-6)
    assert np.abs(before[:, 9:] - after[:, 9:]).max() > 1e-3


def test_packed_documents_do_not_see_each_other(full):
    """Three documents in a row give what each gives alone (positions differ, rotation is relative).

    Documents end inside and at the end of blocks, and one is longer than the window.
    """
    tokens = tokens_of(1)
    lengths = (5, 3, 8)
    segments = jnp.array([np.repeat([0, 1, 2], lengths)] * 2)
    packed, start = full(tokens, segments), 0
    for length in lengths:
        document = jnp.pad(tokens[:, start : start + length], ((0, 0), (0, LENGTH - length)))
        alone = full(document, jnp.array([np.repeat([0, 1], (length, LENGTH - length))] * 2))
        np.testing.assert_allclose(packed[:, start : start + length], alone[:, :length], atol=3e-5)
        start += length


def test_remat_changes_no_gradient(config, params):
    tokens = tokens_of(2, 1, 8)

    def grads(remat):
        chosen = replace(config, remat=remat)
        return jax.jit(jax.grad(lambda p: logits(chosen, p, tokens).var()))(params)

    for plain, again in zip(*map(jax.tree.leaves, (grads("none"), grads("full"))), strict=True):
        np.testing.assert_allclose(plain, again, atol=1e-5)


def test_what_is_kept_by_name_changes_no_gradient():
    config, tokens = KINDS["unrolled"], tokens_of(2, 1, 8)
    params = create(config, key=jax.random.key(3))

    def grads(remat):
        chosen = replace(config, remat=remat)
        return quick_jit(jax.grad(lambda p: logits(chosen, p, tokens).var()))(params)

    kept = grads("names:qkv,mlp_hidden")
    for plain, again in zip(*map(jax.tree.leaves, (grads("none"), kept)), strict=True):
        np.testing.assert_allclose(plain, again, atol=1e-5)


def test_every_mixer_names_its_residuals(config, params):
    names = value_names(partial(logits, config), params, tokens_of(2, 1, 8))
    assert set(names) == set(RESIDUALS)


@pytest.mark.skipif(not fence.available(), reason="no native fence")
def test_each_unrolled_layer_is_recomputed_behind_a_fence():
    config = replace(KINDS["unrolled"], remat="full")
    params = jax.eval_shape(lambda: create(config, key=jax.random.key(3)))
    lowered = jax.jit(jax.grad(lambda p: logits(config, p, tokens_of(2, 1, 8)).var())).lower(params)
    assert lowered.as_text().count(f"@{fence.TARGET}(") == config.layers


def test_bfloat16_is_near_float32(config, params, full):
    tokens = tokens_of(3)
    rough = jax.jit(lambda p: logits(replace(config, dtype="bfloat16"), p, tokens))(params)
    exact = full(tokens)
    assert rough.dtype == jnp.float32
    assert np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()
