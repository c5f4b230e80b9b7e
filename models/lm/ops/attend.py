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


def blockwise(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    queries: Places,
    keys: Places,
    scale: float,
    *,
    window: int | None = None,
    block: int = 512,
) -> Float[Array, "B T N V"]:
    """The same over blocks of keys with a running softmax (Rabe and Staats, arXiv 2112.05682).

    Memory grows with T * block instead of T * S, in the backward pass too.
    """
    grouped = _grouped(q, k.shape[2])
    parts = (k, v, keys.positions, keys.segments)
    parts = jax.tree.map(lambda x: _key_blocks(x, block), parts)

    @jax.checkpoint
    def body(carry, part):
        top, mass, out = carry
        k, v, at, segments = part
        seen = visible(queries, Places(at, segments), window)[:, None, None]
        scores = scale * wide_einsum("bkgth,bskh->bkgts", grouped, k)
        scores = jnp.where(seen, scores, MASKED)
        higher = jnp.maximum(top, scores.max(-1))
        weights = jnp.exp(scores - higher[..., None])
        shrink = jnp.exp(top - higher)
        read = wide_einsum("bkgts,bskv->bkgtv", weights.astype(v.dtype), v)
        return (
            higher,
            mass * shrink + weights.sum(-1),
            out * shrink[..., None] + read,
        ), None

    shape = grouped.shape[:-1]
    start = (
        jnp.full(shape, MASKED, jnp.float32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros((*shape, v.shape[-1]), jnp.float32),
    )
    (_, mass, out), _ = jax.lax.scan(body, start, parts)
    return _joined((out / mass[..., None]).astype(v.dtype))


def _key_blocks(x: Array, block: int) -> Array:
    """[B, S, ...] as [S / block, B, block, ...]; what is padded does not exist."""
    padding = [(0, 0)] * x.ndim
    padding[1] = (0, -x.shape[1] % block)
    fill = -1 if jnp.issubdtype(x.dtype, jnp.integer) and x.ndim == 2 else 0
    x = jnp.pad(x, padding, constant_values=fill)
    return jnp.moveaxis(x.reshape(x.shape[0], -1, block, *x.shape[2:]), 1, 0)


def _grouped(q: Float[Array, "B T N H"], kv_heads: int) -> Float[Array, "B K G T H"]:
    """Query heads by the key-value head that they share.

    Raises:
        ValueError: if the key-value heads do not divide the query heads.
    """
    batch, length, heads, width = q.shape
    if heads % kv_heads:
        raise ValueError(f"{kv_heads} key-value heads do not divide {heads} query heads")
    q = q.reshape(batch, length, kv_heads, heads // kv_heads, width)
    return q.transpose(0, 2, 3, 1, 4)


def _joined(out: Float[Array, "B K G T V"]) -> Float[Array, "B T N V"]:
    batch, _, _, length, width = out.shape
    return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, -1, width)
