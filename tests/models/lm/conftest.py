"""Tiny models of every kind, with compiled functions that the tests share."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import pytest

from loomax.models.lm import create, extend, logits, verify
from loomax.models.lm.presets import transformer_debug, yoco_debug

KINDS = {
    "gated_retention": yoco_debug("gated_retention"),
    "sliding_window": yoco_debug("sliding_window"),
    "gated_deltanet": yoco_debug("gated_deltanet"),
    "looped": replace(yoco_debug(), loops=2, kv_residual=True, cross_rope=False),
    "unrolled": replace(yoco_debug(), unroll=True),
    "attention": transformer_debug("attention"),
    "mla": transformer_debug("mla"),
}


# At these sizes nothing takes time but compiling.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@cache
def params_of(kind):
    params = create(KINDS[kind], key=jax.random.key(3))
    if "kv_share" in params:
        # It starts at zero, where a wrong share would not show.
        params["kv_share"] = jnp.full_like(params["kv_share"], 0.3)
    return params


@cache
def compiled(kind, function):
    """A jitted function of (params, ...) for one kind of model."""
    return quick_jit(partial(function, KINDS[kind]))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def config(kind):
    return KINDS[kind]


@pytest.fixture
def params(kind):
    return params_of(kind)


@pytest.fixture
def full(kind, params):
    """tokens, segments=None -> logits of whole rows."""
    return partial(compiled(kind, logits), params)


@pytest.fixture
def step(kind, params):
    """cache, tokens, count -> logits of the last token, cache."""
    return partial(compiled(kind, extend), params)


@pytest.fixture
def scores(kind, params):
    """cache, tokens -> logits of all of them, draft."""
    return partial(compiled(kind, verify), params)
