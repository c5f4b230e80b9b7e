"""Gated retention in its three forms (YOCO, arXiv 2405.05254, section 3.1).

    S_n = gamma_n S_{n-1} + k_n^T v_n          y_n = q_n S_n

with one data-dependent decay gamma_n = exp(log_decay_n) for each head and token. Decays are summed
in float32. A token with k = 0 and log_decay = 0 leaves the state as it was.

Shape letters: B batch, T tokens, N heads, K key width, V value width, C blocks, L tokens of a
block.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loomax.models.layers import rms_normalise, wide_einsum
from loomax.models.lm.ops.blocks import (
    from_blocks,
    into_blocks,
    scan_states,
    segments_into_blocks,
)
from loomax.models.lm.ops.segments import Boundaries, boundaries
from loomax.models.lm.positions import Turns, turned

Outputs = tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]


def recurrent(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"],
) -> Outputs:
    """Token after token; float32."""

    def step(state, token):
        q, k, v, g = token
        state = jnp.exp(g)[..., None, None] * state + k[..., :, None] * v[..., None, :]
        return state, jnp.einsum("bnk,bnkv->bnv", q, state)

    tokens = [jnp.moveaxis(x.astype(jnp.float32), 1, 0) for x in (q, k, v, log_decay)]
    state, y = jax.lax.scan(step, state, tuple(tokens))
    return jnp.moveaxis(y, 0, 1), state


def parallel(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N V"]:
    """All tokens at once, as attention without a softmax; float32, memory T^2."""
    total = jnp.cumsum(log_decay.astype(jnp.float32), axis=1)
    length = q.shape[1]
    seen = jnp.tril(jnp.ones((length, length), bool))[None]
    if segments is not None:
        seen = seen & (segments[:, :, None] == segments[:, None, :])
    gap = total[:, :, None] - total[:, None, :]
    decay = jnp.exp(jnp.where(seen[..., None], gap, -jnp.inf))
    scores = wide_einsum("btnk,bsnk->btsn", q, k)
    return jnp.einsum("btsn,bsnv->btnv", scores * decay, v.astype(jnp.float32))


def chunkwise(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"] | None = None,
    segments: Int[Array, "B T"] | None = None,
    *,
    chunk: int,
) -> Outputs:
    """Parallel within blocks of `chunk` tokens, recurrent between them.

    Products take the dtype of q, k and v and accumulate in float32, as does the state.
    """
    batch, length, heads, width = k.shape
    size = min(chunk, length)
    if state is None:
        state = jnp.zeros((batch, heads, width, v.shape[-1]), jnp.float32)
    q, k, v, g = (into_blocks(x, size) for x in (q, k, v, log_decay))
    edges = None if segments is None else boundaries(segments_into_blocks(segments, size))
    total = jnp.cumsum(g.astype(jnp.float32), axis=2)
    added, kept = _block_updates(k, v, total, edges)
    before, state = scan_states(
        lambda s, given: given[0][..., None, None] * s + given[1], state, (kept, added)
    )
    y = _within(q, k, v, total, edges) + _across(q, total, before, edges)
    return from_blocks(y, length), state


def prepared(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"] | None = None,
    segments: Int[Array, "B T"] | None = None,
    turns: Turns | None = None,
    *,
    chunk: int,
    scale: float = 1.0,
    epsilon: float | None = None,
) -> Outputs:
    """`chunkwise` with what comes right before and behind it in a layer.

    Args:
        turns: rotate queries and keys (see `positions`); zeros make a token's own zero.
        scale: positive factor on the keys.
        epsilon: divide each head's outputs by their root mean square, with this added to the mean
            square; they have v's dtype then.
    """
    q, k = turned(q, turns), turned(k, turns)
    k = k if scale == 1.0 else k * jnp.asarray(scale, k.dtype)
    y, state = chunkwise(q, k, v, log_decay, state, segments, chunk=chunk)
    return (y if epsilon is None else rms_normalise(y, epsilon).astype(v.dtype)), state


def _within(q: Array, k: Array, v: Array, total: Array, edges: Boundaries | None) -> Array:
    """What tokens read from tokens of their own block, [C, B, L, N, V]."""
    size = q.shape[2]
    seen = jnp.tril(jnp.ones((size, size), bool))
    if edges is not None:
        seen = (seen & edges.same)[:, :, None]
    levels = jnp.moveaxis(total, 3, 2)
    gap = levels[..., :, None] - levels[..., None, :]
    decay = jnp.exp(jnp.where(seen, gap, -jnp.inf))
    scores = wide_einsum("cblnk,cbmnk->cbnlm", q, k)
    weights = (scores * decay).astype(v.dtype)
    return wide_einsum("cbnlm,cbmnv->cblnv", weights, v)


def _across(q: Array, total: Array, before: Array, edges: Boundaries | None) -> Array:
    """What tokens read from the state that entered their block, [C, B, L, N, V]."""
    decay = jnp.exp(total)
    if edges is not None:
        decay = jnp.where(edges.reads[..., None], decay, 0.0)
    read = wide_einsum("cblnk,cbnkv->cblnv", q, before.astype(q.dtype))
    return read * decay[..., None]


def _block_updates(k: Array, v: Array, total: Array, edges: Boundaries | None):
    """What each block adds to the state [C, B, N, K, V], and the share that it keeps [C, B, N]."""
    left = jnp.exp(total[:, :, -1:] - total)
    kept = jnp.exp(total[:, :, -1])
    if edges is not None:
        left = jnp.where(edges.stays[..., None], left, 0.0)
        kept = jnp.where(edges.carries[..., None], kept, 0.0)
    scaled = (v * left[..., None]).astype(v.dtype)
    added = wide_einsum("cblnk,cblnv->cbnkv", k, scaled)
    return added, kept
