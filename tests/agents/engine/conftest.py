"""Tiny models of every kind, engines for them, and decoding of one request alone."""

import asyncio
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.engine import Engine
from loomax.agents.search.engine_protocol import Sampling
from loomax.models.lm import create, empty_cache, extend
from loomax.models.lm.presets import transformer_debug, yoco_debug

YOCO = {"self_layers": 1, "cross_layers": 1}
MODELS = {
    "gated_retention": replace(yoco_debug("gated_retention"), **YOCO),
    "sliding_window": replace(yoco_debug("sliding_window"), **YOCO),
    "gated_deltanet": replace(yoco_debug("gated_deltanet"), **YOCO),
    "attention": replace(transformer_debug("attention"), self_layers=2),
    "mla": replace(transformer_debug("mla"), self_layers=1),
    "int8": replace(transformer_debug("attention"), self_layers=1, kv_bits=8),
}
SIZES = EngineConfig(
    slots=3, context=64, page=4, pages=64, chunks=(8,), snapshots=12, snapshot_every=8
)


@cache
def params_of(kind):
    return create(MODELS[kind], key=jax.random.key(3))


@cache
def _step(kind):
    @jax.jit
    def step(params, cached, token):
        scores, cached = extend(MODELS[kind], params, cached, token)
        logprobs = jax.nn.log_softmax(scores[0])
        return logprobs.argmax(), logprobs.max(), cached

    return step


@cache
def _nothing(kind):
    return empty_cache(MODELS[kind], 1, SIZES.context)


def alone(kind, tokens, most):
    """Greedy decoding of one request, token by token, and log-probabilities."""
    step, cached = _step(kind), _nothing(kind)
    found, logprobs, waiting = [], [], list(tokens)
    while len(found) < most:
        given = np.array([[waiting.pop(0)]], np.int32)
        token, logprob, cached = step(params_of(kind), cached, given)
        if not waiting:
            waiting.append(int(token))
            found.append(waiting[0])
            logprobs.append(float(logprob))
    return found, logprobs


class Letters:
    """Token i is the i-th letter."""

    def pieces(self, ids):
        return [chr(ord("a") + token) for token in ids]


def engine_of(kind, config=SIZES, **options):
    return Engine(MODELS[kind], params_of(kind), config, words=Letters(), **options)


async def read(request):
    """All tokens and log-probabilities of a request."""
    tokens, logprobs = [], []
    async for piece in request:
        tokens += piece.tokens
        logprobs += piece.logprobs
    return tokens, logprobs


async def generate(engine, tokens, most, **options):
    """One request from submit to abort; its tokens."""
    sampling = Sampling(most, **{k: v for k, v in options.items() if k not in ("kind", "parent")})
    given = {k: v for k, v in options.items() if k in ("kind", "parent")}
    request = await engine.submit(tokens, sampling, **given)
    try:
        return (await read(request))[0]
    finally:
        engine.abort(request)


def run(engine, body):
    """body(engine) while the engine runs."""

    async def main():
        async with engine:
            return await asyncio.wait_for(body(engine), 120)

    return asyncio.run(main())


def leaks(engine):
    """Pages and snapshots that somebody holds although nobody should."""
    memory = engine.memory
    memory.radix.clear()
    return memory.pages.used, memory.snapshots.used - bool(memory.snapshots.size)


SLOW = ("sliding_window", "gated_deltanet", "mla")


@pytest.fixture(params=[pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in MODELS])
def kind(request):
    return request.param
