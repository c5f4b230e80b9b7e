"""Picks an implementation of the sequence operations: the only place that asks for the platform.

    attention over whole rows   splash attention on TPU, key blocks elsewhere and for long rows
    attention over a cache      all scores at once while they are small, else key blocks
    gated retention             our Pallas kernel on TPU, chunked XLA elsewhere

Shape letters: B batch, T tokens, S slots, N query heads, K key-value heads, H key width, V value
width.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loomax.models.attention import attend
from loomax.models.lm import kv
from loomax.models.lm.ops import retention as retention_ops
from loomax.models.lm.ops.attend import Places, blockwise, visible
from loomax.models.lm.span import Span, positions, valid

# Scores of up to this many key-query pairs of one row are held at once.
DENSE_PAIRS = 1 << 20


def attend_rows(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    span: Span,
    *,
    scale: float,
) -> Float[Array, "B T N V"]:
    """Causal attention of whole rows to themselves, within documents."""
    length = q.shape[1]
    at = jnp.where(valid(span, length), positions(span, length), -1)
    return _attend(q, k, v, Places(at, span.segments), Places(at, span.segments), scale)


def attend_cached(
    q: Float[Array, "B T N H"], store: kv.KV, span: Span, *, scale: float
) -> Float[Array, "B T N V"]:
    """A block of queries at `span` to everything stored up to each of them."""
    at = positions(span, q.shape[1])
    slots = jnp.arange(store.slots, dtype=at.dtype)
    # What lies behind the newest token is of no sequence, and no query's position reaches it.
    where = jnp.broadcast_to(slots, (q.shape[0], store.slots))
    keys, values = kv.read(store, q.dtype)
    return _attend(q, keys, values, Places(at), Places(where), scale)


def _attend(q: Array, k: Array, v: Array, queries: Places, keys: Places, scale: float) -> Array:
    if q.shape[1] * k.shape[1] <= DENSE_PAIRS:
        return attend(q, k, v, visible(queries, keys), scale)
    return blockwise(q, k, v, queries, keys, scale)


def retention(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"] | None,
    segments: Int[Array, "B T"] | None,
    *,
    chunk: int,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]:
    """Gated retention of a block of tokens from a state."""
    return retention_ops.chunkwise(q, k, v, log_decay, state, segments, chunk=chunk)
