"""Generation on an explicit cache: prefill, extend, decode, and drafts that can be taken back.

A decoder-decoder leaves early: the cross layers run on the last token of a block only, since
nothing that is cached depends on them. That holds for the first block of a sequence and for every
later one alike, so `prefill` is `extend` on an empty cache.

Rows may be ragged: only the first `count` tokens of a row are real.

Shape letters: B batch, T tokens, S slots, D width, V vocabulary.
"""

from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from loomax.models.lm import kv
from loomax.models.lm.config import FULL_ATTENTION, LMConfig
from loomax.models.lm.forward import embed, logits_of
from loomax.models.lm.mixers import MIXERS
from loomax.models.lm.span import Span, last_token
from loomax.models.lm.stack import (
    cross_layers,
    empty_states,
    global_keys_values,
    normed,
    self_layers,
)


@struct.dataclass
@no_type_check  # the same fields also hold shapes and shardings
class Cache:
    """All that generation needs of the tokens so far.

    Args:
        length: tokens of each row.
        states: of the self layers, one entry per loop.
        shared: the one global KV of a decoder-decoder.
    """

    length: Int[Array, " B"]
    states: Any
    shared: kv.KV | None


@struct.dataclass
@no_type_check
class Draft:
    """Tokens that are not accepted yet.

    Args:
        projected: by the self layers, where these are recurrent.
        states: of the self layers, where these are keys and values of all tokens.
        shared: the global KV.
    """

    projected: Any
    states: Any
    shared: kv.KV | None


def empty_cache(config: LMConfig, batch: int, slots: int) -> Cache:
    """A cache with room for `slots` tokens a row.

    Raises:
        ValueError: sizes below 1.
    """
    for name, size in (("batch", batch), ("slots", slots)):
        if size < 1:
            raise ValueError(f"{name} is {size}; a cache needs at least 1")
    shared = None
    if config.decoder_decoder:
        widths = (config.head_dim, config.head_dim)
        dtype = jnp.dtype(config.dtype)
        shared = kv.empty(batch, slots, config.kv_heads, widths, dtype, config.kv_bits)
    return Cache(jnp.zeros((batch,), jnp.int32), empty_states(config, batch, slots), shared)


def room(config: LMConfig, cache: Cache) -> int | None:
    """Slots of a row; None where nothing grows with the number of tokens."""
    if cache.shared is not None:
        return cache.shared.slots
    if config.mixer not in FULL_ATTENTION:
        return None
    first = cache.states[0][0] if config.unroll else cache.states[0]
    return first.slots


def check_room(config: LMConfig, cache: Cache, tokens: int) -> None:
    """Refuses a block that is longer than the whole cache; how full it is only the device knows.

    Raises:
        ValueError: naming both sizes.
    """
    slots = room(config, cache)
    if slots is not None and tokens > slots:
        raise ValueError(
            f"a block of {tokens} tokens does not fit a cache of {slots} slots; make the cache "
            "with more slots"
        )


def _self_decoder(
    config: LMConfig, params: PyTree, cache: Cache, tokens: Array, span: Span, keep: bool = False
) -> tuple[Array, Cache, Any]:
    """Residual stream behind the self layers, the cache with the span's tokens, projections."""
    check_room(config, cache, tokens.shape[1])
    x = embed(config, params, tokens)
    x, states, projected = self_layers(config, params, x, cache.states, span, keep=keep)
    shared = cache.shared
    if config.decoder_decoder:
        keys, values = global_keys_values(config, params, x, span)
        shared = kv.write(shared, keys, values, span.start, span.count)
    return x, Cache(cache.length + span.count, states, shared), projected


def extend(
    config: LMConfig,
    params: PyTree,
    cache: Cache,
    tokens: Int[Array, "B T"],
    count: Int[Array, " B"] | None = None,
) -> tuple[Float[Array, "B V"], Cache]:
    """Appends a block of tokens; returns the scores of what follows each row's last real token.

    Rows with count 0 keep their cache; their scores mean nothing.

    Raises:
        ValueError: the block is longer than the cache.
    """
    batch, length = tokens.shape
    count = jnp.full((batch,), length, jnp.int32) if count is None else count
    span = Span(cache.length, count)
    x, cache, _ = _self_decoder(config, params, cache, tokens, span)
    x = last_token(x, span)
    if config.decoder_decoder:
        at_last = Span(span.start + jnp.maximum(count - 1, 0), jnp.minimum(count, 1))
        x = cross_layers(config, params, x, cache.shared, at_last)
    return logits_of(config, params, normed(config, x, params["norm"])[:, 0]), cache


def prefill(
    config: LMConfig,
    params: PyTree,
    tokens: Int[Array, "B T"],
    count: Int[Array, " B"] | None = None,
    *,
    slots: int,
) -> tuple[Float[Array, "B V"], Cache]:
    """`extend` on a new cache of `slots` slots.

    Raises:
        ValueError: the prompt is longer than the cache.
    """
    return extend(config, params, empty_cache(config, tokens.shape[0], slots), tokens, count)


def decode(
    config: LMConfig,
    params: PyTree,
    cache: Cache,
    token: Int[Array, " B"],
    active: Int[Array, " B"] | None = None,
) -> tuple[Float[Array, "B V"], Cache]:
    """Appends one token a row; rows where `active` is 0 stay as they are."""
    return extend(config, params, cache, token[:, None], active)


def verify(
    config: LMConfig,
    params: PyTree,
    cache: Cache,
    tokens: Int[Array, "B T"],
    count: Int[Array, " B"] | None = None,
) -> tuple[Float[Array, "B T V"], Draft]:
    """Scores after each of several drafted tokens; the cache stays as it was until `commit`.

    The global KV is read once for all drafts of a row. Only the first `count` tokens of a row are
    real.
    """
    batch, length = tokens.shape
    count = jnp.full((batch,), length, jnp.int32) if count is None else count
    span = Span(cache.length, count)
    full = config.mixer in FULL_ATTENTION
    x, after, projected = _self_decoder(config, params, cache, tokens, span, keep=not full)
    if config.decoder_decoder:
        x = cross_layers(config, params, x, after.shared, span)
    scores = logits_of(config, params, normed(config, x, params["norm"]))
    return scores, Draft(projected, after.states if full else None, after.shared)


def commit(config: LMConfig, cache: Cache, draft: Draft, accepted: Int[Array, " B"]) -> Cache:
    """The cache with the first `accepted` drafted tokens of each row.

    Nothing is undone: the states advance from the projections with a mask on the rejected tokens,
    and what is stored of all tokens has slots behind the new length that will be overwritten.
    """
    if draft.states is not None:
        return Cache(cache.length + accepted, draft.states, draft.shared)
    span, mixer = Span(cache.length, accepted), MIXERS[config.mixer]

    def advance(state, given):
        return mixer.mix(config, state, given, span)[1]

    states = []
    for before, given in zip(cache.states, draft.projected, strict=True):
        if config.unroll:
            states.append(tuple(map(advance, before, given)))
        else:
            states.append(jax.lax.map(lambda pair: advance(*pair), (before, given)))
    return Cache(cache.length + accepted, tuple(states), draft.shared)
