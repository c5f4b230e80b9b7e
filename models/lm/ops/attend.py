"""Attention by positions: one visibility rule for packed rows, caches, rings and windows.

A query sees a key if the key exists (its position is not negative), does not lie ahead, lies
within the window, and belongs to the same document.

Shape letters: B batch, T queries, S keys, N query heads, K key-value heads, H key width, V value
width.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from loomax.models.attention import MASKED
from loomax.models.layers import wide_einsum
from loomax.models.lm.kv import KV


class Places(NamedTuple):
    """Positions and, for packed rows, documents of a block's tokens; a missing key is at -1."""

    positions: Int[Array, "B S"]
    segments: Int[Array, "B S"] | None = None


def visible(queries: Places, keys: Places, window: int | None = None) -> Bool[Array, "B T S"]:
    """Which query sees which key."""
    at, other = queries.positions[:, :, None], keys.positions[:, None, :]
    seen = (other >= 0) & (other <= at)
    if window is not None:
        seen &= at - other < window
    if queries.segments is not None:
        seen &= queries.segments[:, :, None] == keys.segments[:, None, :]
    return seen


def quantised(
    q: Float[Array, "B T N H"],
    store: KV,
    seen: Bool[Array, "B T S"],
    scale: float,
) -> Float[Array, "B T N V"]:
    """Attention to int8 keys and values.

    Their scales multiply scores and weights, so the codes are what is read and multiplied: half
    the traffic of bfloat16, without a copy in another type.
    """
    heads = grouped(q, store.keys.shape[2])
    scores = wide_einsum("bkgth,bskh->bkgts", heads, store.keys.astype(q.dtype))
    scores *= scale * store.key_scale.swapaxes(1, 2)[:, :, None, None]
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, MASKED), axis=-1)
    weights *= store.value_scale.swapaxes(1, 2)[:, :, None, None]
    out = wide_einsum("bkgts,bskv->bkgtv", weights.astype(q.dtype), store.values.astype(q.dtype))
    return joined(out.astype(q.dtype))


def grouped(q: Float[Array, "B T N H"], kv_heads: int) -> Float[Array, "B K G T H"]:
    """Query heads by the key-value head that they share.

    Raises:
        ValueError: if the key-value heads do not divide the query heads.
    """
    batch, length, heads, width = q.shape
    if heads % kv_heads:
        raise ValueError(f"{kv_heads} key-value heads do not divide {heads} query heads")
    q = q.reshape(batch, length, kv_heads, heads // kv_heads, width)
    return q.transpose(0, 2, 3, 1, 4)


def joined(out: Float[Array, "B K G T V"]) -> Float[Array, "B T N V"]:
    batch, _, _, length, width = out.shape
    return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, -1, width)
