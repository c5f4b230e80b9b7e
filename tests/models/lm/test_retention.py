"""Gated retention: three forms, one result; NumPy in float64 is the reference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm.ops import retention

B, T, N, K, V = 2, 21, 2, 4, 6


def draw(seed=0, length=T):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, B, length, N, K))
    v = rng.normal(size=(B, length, N, V))
    log_decay = np.log(rng.uniform(0.3, 1.0, (B, length, N)))
    return [x.astype(np.float32) for x in (q, k, v, log_decay)]


def reference(q, k, v, log_decay, state, segments=None):
    """The definition, token after token, in float64; a new document starts from nothing."""
    q, k, v, g = (x.astype(np.float64) for x in (q, k, v, log_decay))
    state, out = state.astype(np.float64), np.zeros(v.shape)
    for b in range(q.shape[0]):
        for n in range(N):
            s = state[b, n].copy()
            for t in range(q.shape[1]):
                if segments is not None and t and segments[b, t] != segments[b, t - 1]:
                    s = np.zeros_like(s)
                s = np.exp(g[b, t, n]) * s + np.outer(k[b, t, n], v[b, t, n])
                out[b, t, n] = q[b, t, n] @ s
            state[b, n] = s
    return out, state


def chunkwise(*args, chunk):
    return jax.jit(partial(retention.chunkwise, chunk=chunk))(*args)


def start(scale=1.0):
    return (scale * np.random.default_rng(7).normal(size=(B, N, K, V))).astype(np.float32)


def test_recurrent_is_the_definition():
    args, state = draw(), start()
    y, after = jax.jit(retention.recurrent)(*args, state)
    want, last = reference(*args, state)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_chunkwise_is_the_definition(chunk):
    args, state = draw(), start()
    y, after = chunkwise(*args, state, chunk=chunk)
    want, last = reference(*args, state)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)


def test_parallel_is_the_definition():
    args = draw()
    np.testing.assert_allclose(
        jax.jit(retention.parallel)(*args), reference(*args, start(0.0))[0], atol=1e-5
    )


SEGMENTS = np.array([[0] * 6 + [1] * 2 + [2] * 13, [3] * 8 + [4] * 13])


@pytest.mark.parametrize("chunk", [4, 8, 64])
def test_documents_start_from_nothing(chunk):
    args = draw()
    want, last = reference(*args, start(0.0), SEGMENTS)
    y, after = chunkwise(*args, None, jnp.array(SEGMENTS), chunk=chunk)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)
    parallel = jax.jit(retention.parallel)(*args, jnp.array(SEGMENTS))
    np.testing.assert_allclose(parallel, want, atol=1e-5)


def test_a_masked_token_leaves_the_state():
    q, k, v, g = draw()
    k[:, 5:], g[:, 5:] = 0, 0
    _, after = chunkwise(q, k, v, g, start(), chunk=4)
    _, short = chunkwise(q[:, :5], k[:, :5], v[:, :5], g[:, :5], start(), chunk=4)
    np.testing.assert_allclose(after, short, atol=1e-6)


def test_forms_agree_at_length_with_strong_and_weak_decay():
    """T = 1024, K = V = 64: decays from 0.999 to 1e-3 a token."""
    rng = np.random.default_rng(1)
    q, k, v = rng.normal(size=(3, 1, 1024, 2, 64)).astype(np.float32) / 8
    g = np.stack([np.full((1, 1024), -1e-3), np.full((1, 1024), -7.0)], -1).astype(np.float32)
    zero = jnp.zeros((1, 2, 64, 64))
    serial, last = jax.jit(retention.recurrent)(q, k, v, g, zero)
    blocks, after = chunkwise(q, k, v, g, chunk=128)
    np.testing.assert_allclose(blocks, serial, atol=1e-4)
    np.testing.assert_allclose(after, last, atol=1e-4)
    np.testing.assert_allclose(jax.jit(retention.parallel)(q, k, v, g), serial, atol=1e-4)


def test_gradients_of_the_forms_agree():
    args = draw()

    def grads(form):
        return jax.jit(jax.grad(lambda a: jnp.sin(form(*a)).sum()))(args)

    blocks = grads(lambda *a: retention.chunkwise(*a, chunk=4)[0])
    whole = grads(retention.parallel)
    serial = grads(lambda *a: retention.recurrent(*a, jnp.zeros((B, N, K, V)))[0])
    for got, want, other in zip(blocks, whole, serial, strict=True):
        scale = np.abs(want).max()
        np.testing.assert_allclose(got / scale, want / scale, atol=1e-5)
        np.testing.assert_allclose(other / scale, want / scale, atol=1e-5)
