"""Stored keys and values: where tokens go, and what eight bits lose."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from loomax.models.attention import attend
from loomax.models.lm import create, empty_cache, extend, kv, logits
from loomax.models.lm.ops.attend import quantised
from loomax.models.lm.presets import yoco_debug

WRITE = jax.jit(kv.write)


def test_tokens_go_to_the_slot_of_their_position():
    store = kv.empty(2, 5, 1, (2, 3), jnp.float32)
    keys = jnp.arange(12.0).reshape(2, 3, 1, 2) + 1
    values = jnp.arange(18.0).reshape(2, 3, 1, 3) + 1
    store = WRITE(store, keys, values, jnp.array([0, 3]), jnp.array([2, 3]))
    np.testing.assert_array_equal(store.keys[0, :2], keys[0, :2])
    assert not store.keys[0, 2:].any()
    # Row 1 has room for two of its three tokens: the third is dropped, nothing is overwritten.
    np.testing.assert_array_equal(store.values[1, 3:], values[1, :2])
    assert not store.values[1, :3].any()


def test_eight_bits_are_within_half_a_step():
    x = 3 * jax.random.normal(jax.random.key(0), (2, 7, 2, 16))
    store = WRITE(
        kv.empty(2, 7, 2, (16, 16), jnp.float32, bits=8), x, x, jnp.zeros(2, int), jnp.full(2, 7)
    )
    keys, _ = kv.read(store, jnp.float32)
    step = np.abs(x).max(-1) / 127
    assert (np.abs(keys - x).max(-1) <= step / 2 + 1e-6).all()
    assert store.keys.dtype == jnp.int8


def test_attention_to_codes_is_attention_to_what_they_stand_for():
    key = jax.random.split(jax.random.key(1), 3)
    q = jax.random.normal(key[0], (2, 3, 4, 16))
    k, v = (jax.random.normal(x, (2, 7, 2, 16)) for x in key[1:])
    store = WRITE(
        kv.empty(2, 7, 2, (16, 16), jnp.float32, bits=8), k, v, jnp.zeros(2, int), jnp.full(2, 7)
    )
    seen = jnp.array(np.random.default_rng(0).random((2, 3, 7)) < 0.7).at[:, :, 0].set(True)
    got = jax.jit(partial(quantised, scale=0.25))(q, store, seen)
    keys, values = kv.read(store, jnp.float32)
    want = jax.jit(partial(attend, scale=0.25))(q, keys, values, seen)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_model_with_eight_bit_keys_stays_near():
    """And is less exact than with sixteen, so the bits are in use."""
    config = yoco_debug()
    params = create(config, key=jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, 37)
    want = jax.jit(partial(logits, config))(params, tokens)[:, -1]
    errors = {}
    for bits in (8, 16):
        chosen = replace(config, kv_bits=bits)
        got, cache = jax.jit(partial(extend, chosen))(params, empty_cache(chosen, 2, 16), tokens)
        errors[bits] = np.abs(got - want).max()
        assert cache.shared.keys.dtype == (jnp.int8 if bits == 8 else jnp.float32)
    assert errors[16] < 2e-5 < errors[8] < 0.05 * np.abs(want).max()
