"""Splash attention, as it is called, against NumPy in float64 and against the XLA forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.lm import kernels
from loomax.models.lm.ops import splash
from loomax.models.lm.ops.attend import Places
from loomax.models.lm.span import Span


def softmax_attention(q, k, v, seen, scale):
    """Grouped-query attention in float64."""
    groups = q.shape[2] // k.shape[2]
    k, v = (np.repeat(x.astype(np.float64), groups, axis=2) for x in (k, v))
    scores = scale * np.einsum("btnh,bsnh->bnts", q.astype(np.float64), k)
    scores = np.where(seen[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnts,bsnv->btnv", weights / weights.sum(-1, keepdims=True), v)


LONG = 350  # three blocks of 128, the last one padded
SEGMENTS = np.array([[0] * 100 + [1] * 250, [2] * 130 + [3] * 126 + [4] * 94], np.int32)


def attention_inputs(heads=4, groups=2):
    rng = np.random.default_rng(2)
    q = rng.normal(size=(2, LONG, heads, 64)).astype(np.float32)
    k, v = rng.normal(size=(2, 2, LONG, heads // groups, 64)).astype(np.float32)
    return q, k, v


def visible(window, segments):
    at = np.arange(LONG)
    gap = at[:, None] - at
    seen = np.broadcast_to((gap >= 0) & (gap < (window or LONG)), (2, LONG, LONG))
    return seen if segments is None else seen & (segments[:, :, None] == segments[:, None])


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
@pytest.mark.parametrize("window", [None, 70])
def test_splash_is_attention(window, segments):
    q, k, v = attention_inputs()
    form = jax.jit(partial(splash.attend, window=window, scale=0.1, interpret=True))
    want = softmax_attention(q, k, v, visible(window, segments), 0.1)
    np.testing.assert_allclose(form(q, k, v, segments), want, atol=1e-5)


def test_gradients_of_splash():
    q, k, v = attention_inputs()
    at = jnp.broadcast_to(jnp.arange(LONG), q.shape[:2])

    def grads(implementation):
        form = partial(kernels.attend_window, window=70, implementation=implementation)

        def loss(*args):
            return jnp.sin(form(*args, Places(at, jnp.array(SEGMENTS)), None, scale=0.1)).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

    for ours, theirs in zip(grads("interpret"), grads("xla"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_rows_of_the_chooser_are_splash():
    """Padding behind the real tokens changes nothing before it."""
    q, k, v = attention_inputs()
    span = Span(jnp.zeros(2, jnp.int32), jnp.array([LONG, 200]))
    rows = partial(kernels.attend_rows, scale=0.1)
    got = jax.jit(partial(rows, implementation="interpret"))(q, k, v, span)
    want = softmax_attention(q, k, v, visible(None, None), 0.1)
    np.testing.assert_allclose(got[0], want[0], atol=1e-5)
    np.testing.assert_allclose(got[1, :200], want[1, :200], atol=1e-5)


@pytest.mark.parametrize(
    ("length", "widths", "found"),
    [(512, (64, 128), True), (511, (128, 128), False), (1 << 17, (128, 128), False)],
)
def test_where_it_pays(length, widths, found):
    assert splash.tiles(length, widths) is found
