"""Attention by blocks and by windows against all scores at once, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm.ops.attend import Places, visible
from loomax.models.lm.ops.blockwise import blockwise
from loomax.models.lm.ops.local import ring_positions, ring_write, windowed

B, T, N, K, H, V = 2, 23, 4, 2, 8, 6


def reference(q, k, v, seen, scale):
    """softmax(scale q k) v, one query head at a time; rows that see nothing are left out."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    for head in range(q.shape[2]):
        group = head // (q.shape[2] // k.shape[2])
        scores = scale * np.einsum("bth,bsh->bts", q[:, :, head], k[:, :, group])
        scores = np.where(seen, scores, -np.inf)
        scores -= scores.max(-1, keepdims=True, initial=-1e30)
        weights = np.exp(scores)
        weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
        out[:, :, head] = weights @ v[:, :, group]
    return out


def draw(length=T, width=V):
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (B, length, N, H))
    k = jax.random.normal(keys[1], (B, length, K, H))
    return q, k, jax.random.normal(keys[2], (B, length, K, width))


def causal(length=T):
    at = np.arange(length)
    return np.broadcast_to(at[None, :] <= at[:, None], (B, length, length))


SEGMENTS = np.array([[0] * 6 + [1] * 2 + [2] * 15, [0] * 8 + [1] * 15])


@pytest.mark.parametrize("block", [4, 8, 64])
@pytest.mark.parametrize("packed", [False, True])
def test_blocks_are_all_scores_at_once(block, packed):
    q, k, v = draw()
    at = jnp.broadcast_to(jnp.arange(T), (B, T))
    places = Places(at, jnp.array(SEGMENTS) if packed else None)
    seen = causal()
    if packed:
        seen = seen & (SEGMENTS[:, :, None] == SEGMENTS[:, None])
    got = jax.jit(partial(blockwise, scale=0.3, block=block))(q, k, v, queries=places, keys=places)
    np.testing.assert_allclose(got, reference(q, k, v, seen, 0.3), atol=1e-5)


def dense(q, k, v, places, scale, window):
    """The same by all scores at once, for its derivative."""
    k, v = (jnp.repeat(x, N // K, axis=2) for x in (k, v))
    seen = visible(places, places, window)[:, None]
    scores = jnp.where(seen, scale * jnp.einsum("bqnh,bsnh->bnqs", q, k), -1e30)
    weights = jnp.where(seen, jax.nn.softmax(scores, axis=-1), 0)
    return jnp.einsum("bnqs,bsnv->bqnv", weights, v)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("block", [4, 64])
def test_gradients_of_blocks(block, window):
    """Of packed rows, the last tokens of which do not exist."""
    q, k, v = draw()
    at = jnp.broadcast_to(jnp.where(jnp.arange(T) < T - 3, jnp.arange(T), -1), (B, T))
    places = Places(at, jnp.array(SEGMENTS))
    ours = partial(blockwise, queries=places, keys=places, window=window, block=block, scale=0.3)
    by_blocks, at_once = (
        jax.jit(jax.grad(lambda *args, f=f: jnp.sin(f(*args)).sum(), argnums=(0, 1, 2)))(q, k, v)
        for f in (ours, lambda *args: dense(*args, places, 0.3, window))
    )
    for got, want in zip(by_blocks, at_once, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("layers", [0, 2])
def test_memory_of_gradients_grows_with_the_length(layers):
    """Not with its square, as what all scores or all states of a running softmax take.

    Layers in a loop share their keys: what follows from these alone must not be kept either.
    """

    def temporary(length):
        shape = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
        at = jax.ShapeDtypeStruct((1, length), jnp.int32)

        def loss(args, at):
            q, k, v = args

            @jax.checkpoint
            def layer(q, _):
                return blockwise(q, k, v, Places(at), Places(at), 0.3, block=32), None

            return (jax.lax.scan(layer, q, length=layers)[0] if layers else layer(q, 0)[0]).sum()

        compiled = jax.jit(jax.grad(loss)).lower((shape,) * 3, at).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(2048) < 2.5 * temporary(1024)


def test_padding_that_sees_nothing_is_finite():
    q, k, v = draw()
    at = jnp.where(jnp.arange(T) < 9, jnp.arange(T), -1)
    places = Places(jnp.broadcast_to(at, (B, T)))
    got = jax.jit(partial(blockwise, scale=0.3, block=4))(q, k, v, queries=places, keys=places)
    assert np.isfinite(got).all()
    want = reference(q[:, :9], k[:, :9], v[:, :9], causal(9), 0.3)
    np.testing.assert_allclose(got[:, :9], want, atol=1e-5)


@pytest.mark.parametrize("window", [1, 5, 8, 64])
def test_windows_are_masked_attention(window):
    q, k, v = draw(width=H)
    places = Places(jnp.broadcast_to(jnp.arange(T), (B, T)), jnp.array(SEGMENTS))
    at = np.arange(T)
    near = at[:, None] - at[None] < window
    seen = causal() & near & (SEGMENTS[:, :, None] == SEGMENTS[:, None])
    got = jax.jit(partial(windowed, past=None, window=window, scale=0.3))(q, k, v, places)
    np.testing.assert_allclose(got, reference(q, k, v, seen, 0.3), atol=1e-5)


def test_a_ring_holds_the_newest_tokens():
    """Ragged blocks, one of them longer than the ring, against a list per row."""
    slots, rows = 5, [[], []]
    ring, start = jnp.zeros((2, slots, 1, 1)), jnp.zeros((2,), jnp.int32)
    number = 0
    for counts in ((3, 0), (1, 4), (9, 2), (2, 9)):
        block = np.arange(number, number + 18, dtype=np.float32).reshape(2, 9, 1, 1) + 1
        number += 18
        ring = ring_write(ring, jnp.array(block), start, jnp.array(counts))
        start = start + jnp.array(counts)
        for row in range(2):
            rows[row] += block[row, : counts[row], 0, 0].tolist()
        at = np.asarray(ring_positions(start, slots))
        for row in range(2):
            held = {int(p): float(ring[row, s, 0, 0]) for s, p in enumerate(at[row]) if p >= 0}
            first = max(0, len(rows[row]) - slots)
            assert held == {p: rows[row][p] for p in range(first, len(rows[row]))}
