"""The gated delta rule by blocks and token by token, against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm.ops import delta
from loomax.models.lm.ops.triangular import unit_lower_inverse

B, T, N, K, V = 2, 21, 2, 4, 6


def draw(seed=0):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, B, T, N, K))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v = rng.normal(size=(B, T, N, V))
    beta = rng.uniform(0, 1, (B, T, N))
    log_decay = np.log(rng.uniform(0.3, 1.0, (B, T, N)))
    return [x.astype(np.float32) for x in (q, k, v, beta, log_decay)]


def reference(q, k, v, beta, log_decay, state, segments=None):
    """S = alpha (I - beta k k^T) S + beta k v^T, in float64."""
    q, k, v, beta, g = (x.astype(np.float64) for x in (q, k, v, beta, log_decay))
    state, out = state.astype(np.float64), np.zeros(v.shape)
    for b in range(B):
        for n in range(N):
            s = state[b, n].copy()
            for t in range(T):
                if segments is not None and t and segments[b, t] != segments[b, t - 1]:
                    s = np.zeros_like(s)
                key, rate = k[b, t, n], beta[b, t, n]
                s = np.exp(g[b, t, n]) * (np.eye(K) - rate * np.outer(key, key)) @ s
                s = s + rate * np.outer(key, v[b, t, n])
                out[b, t, n] = q[b, t, n] @ s
            state[b, n] = s
    return out, state


def chunkwise(*args, chunk):
    return jax.jit(partial(delta.chunkwise, chunk=chunk))(*args)


def start(scale=1.0):
    return (scale * np.random.default_rng(7).normal(size=(B, N, K, V))).astype(np.float32)


def test_recurrent_is_the_definition():
    args, state = draw(), start()
    y, after = jax.jit(delta.recurrent)(*args, state)
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


@pytest.mark.parametrize("chunk", [4, 8, 64])
def test_documents_start_from_nothing(chunk):
    segments = np.array([[0] * 6 + [1] * 2 + [2] * 13, [3] * 8 + [4] * 13])
    args = draw()
    want, last = reference(*args, start(0.0), segments)
    y, after = chunkwise(*args, None, jnp.array(segments), chunk=chunk)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(after, last, atol=1e-5)


def test_gradients_of_the_forms_agree():
    args = draw()

    def grads(form):
        return jax.jit(jax.grad(lambda a: jnp.sin(form(*a)[0]).sum()))(args)

    blocks = grads(lambda *a: delta.chunkwise(*a, chunk=8))
    serial = grads(lambda *a: delta.recurrent(*a, jnp.zeros((B, N, K, V))))
    for got, want in zip(blocks, serial, strict=True):
        scale = np.abs(want).max()
        np.testing.assert_allclose(got / scale, want / scale, atol=1e-4)


def test_equal_keys_do_not_break_the_inverse():
    """Where all keys are one, powers of the matrix reach 1e17; block elimination stays exact."""
    strict = np.tril(np.ones((64, 64), np.float32), -1)
    want = np.linalg.inv(np.eye(64) + strict.astype(np.float64))
    np.testing.assert_allclose(unit_lower_inverse(jnp.array(strict)), want, atol=1e-5)


def test_the_inverse_and_its_gradient():
    strict = np.tril(np.random.default_rng(0).normal(size=(3, 8, 8)), -1).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)
    want = np.linalg.inv(np.eye(8) + strict.astype(np.float64))
    np.testing.assert_allclose(unit_lower_inverse(jnp.array(strict)), want, rtol=1e-4, atol=1e-4)
    got = jax.grad(lambda s: (unit_lower_inverse(s) * weights).sum())(jnp.array(strict))
    flipped = want.swapaxes(-1, -2)
    expected = np.tril(-flipped @ weights @ flipped, -1)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_rows_that_are_no_power_of_two_are_refused():
    with pytest.raises(ValueError, match="6 rows"):
        unit_lower_inverse(jnp.zeros((6, 6)))
