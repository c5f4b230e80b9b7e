"""Guesses by decoding ahead, with a small model or with the first layers of the model itself.

Shape letters: R rows, G guesses.
"""

from dataclasses import replace
from typing import Any

import jax
from jaxtyping import Array, Int, PyTree

from loomax.agents.engine.sampling import Draws, choose
from loomax.agents.engine.store import recurrent
from loomax.models.lm import LMConfig
from loomax.models.lm.generate import Cache, decode


def decoded_ahead(
    model: LMConfig,
    params: PyTree,
    cache: Cache,
    token: Int[Array, " R"],
    active: Int[Array, " R"],
    draws: Draws,
    count: int,
) -> tuple[Int[Array, "R G"], Cache]:
    """`count` tokens of each row, drawn with the noise that the verified ones will be drawn with.

    Returns them and the cache as it was, but for slots behind its length that will be overwritten.
    """

    def one(carry, _):
        scores, ahead = decode(model, params, carry[0], carry[1], active)
        guess, _ = choose(scores, ahead.length, draws)
        return (ahead, guess), guess

    (ahead, _), guesses = jax.lax.scan(one, (cache, token), length=count)
    states = cache.states if recurrent(model) else ahead.states
    return guesses.T, Cache(cache.length, states, ahead.shared)


def first_layers(model: LMConfig, layers: int) -> LMConfig:
    """The model that ends behind its first self layers.

    Args:
        layers: 0 is all of a decoder-decoder's, and half of a Transformer's.

    Raises:
        ValueError: there are not so many self layers, or the model loops through them.
    """
    if model.loops > 1:
        raise ValueError(
            f"loops is {model.loops}: the first layers of a looped model are no model; use the "
            "drafter ngram or model"
        )
    chosen = layers or (model.self_layers if model.cross_layers else -(-model.self_layers // 2))
    most = model.self_layers if model.cross_layers else model.self_layers - 1
    if not 1 <= chosen <= most:
        raise ValueError(
            f"{chosen} layers cannot guess for a model of {model.self_layers} self layers; give "
            f"1 to {most}"
        )
    return replace(model, self_layers=chosen, cross_layers=0)


def first_params(params: PyTree, layers: int) -> PyTree:
    """Parameters of `first_layers`; the final norm and the output projection are the model's."""
    kept = dict(params)
    for name in ("cross_layers", "shared_kv"):
        kept.pop(name, None)
    for name in ("self_layers", "kv_share"):
        if name in kept:
            kept[name] = jax.tree.map(lambda x: x[:layers], kept[name])
    return kept


def guesses_of_itself(
    model: LMConfig,
    layers: int,
    params: PyTree,
    cache: Cache,
    token: Int[Array, " R"],
    active: Int[Array, " R"],
    draws: Draws,
    count: int,
) -> tuple[Int[Array, "R G"], Cache]:
    """`decoded_ahead` with the first layers, on the model's own states."""
    small = first_layers(model, layers)
    kept = small.self_layers
    part: Any = (cache.states[0][:kept],)
    given = (small, first_params(params, kept), Cache(cache.length, part, None))
    guesses, after = decoded_ahead(*given, token, active, draws, count)
    states = ((*after.states[0], *cache.states[0][kept:]),)
    return guesses, Cache(cache.length, states, cache.shared)
