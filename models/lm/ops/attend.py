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
    """softmax(scale q k) v by blocks of queries and keys with a running softmax.

    Memory grows with block^2 instead of T * S, in the backward pass too, and pairs of blocks
    without a visible key cost nothing (Rabe and Staats, arXiv 2112.05682).
    """
    length = q.shape[1]
    key_blocks = jax.tree.map(lambda x: _cut(x, block), (k, v, keys))

    def attend_block(part):
        q, queries = part
        return _running_softmax(q, queries, key_blocks, scale, window)

    out = jax.lax.map(attend_block, jax.tree.map(lambda x: _cut(x, block), (q, queries)))
    out = jnp.moveaxis(out, 0, 1)
    return out.reshape(out.shape[0], -1, *out.shape[3:])[:, :length]


def _running_softmax(
    q: Float[Array, "B T N H"], queries: Places, key_blocks: tuple, scale: float, window: int | None
) -> Float[Array, "B T N V"]:
    """One block of queries over all blocks of keys."""
    k, v, _ = key_blocks
    grouped = _grouped(q, k.shape[3])

    def read(carry, k, v, seen):
        top, mass, out = carry
        scores = scale * wide_einsum("bkgth,bskh->bkgts", grouped, k)
        scores = jnp.where(seen[:, None, None], scores, MASKED)
        higher = jnp.maximum(top, scores.max(-1))
        weights = jnp.exp(scores - higher[..., None])
        shrink = jnp.exp(top - higher)
        more = wide_einsum("bkgts,bskv->bkgtv", weights.astype(v.dtype), v)
        return higher, mass * shrink + weights.sum(-1), out * shrink[..., None] + more

    # A loop keeps forward and backward pass apart: here XLA:CPU, too, recomputes what it should.
    @jax.checkpoint
    def body(carry, part):
        k, v, keys = part
        seen = visible(queries, keys, window)
        return jax.lax.cond(seen.any(), read, lambda carry, *_: carry, carry, k, v, seen), None

    shape = grouped.shape[:-1]
    start = (
        jnp.full(shape, MASKED, jnp.float32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros((*shape, v.shape[-1]), jnp.float32),
    )
    (_, mass, out), _ = jax.lax.scan(body, start, key_blocks)
    # Padding may see nothing at all.
    out = out / jnp.maximum(mass, jnp.finfo(jnp.float32).tiny)[..., None]
    return _joined(out.astype(v.dtype))


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
    grouped = _grouped(q, store.keys.shape[2])
    scores = wide_einsum("bkgth,bskh->bkgts", grouped, store.keys.astype(q.dtype))
    scores *= scale * store.key_scale.swapaxes(1, 2)[:, :, None, None]
    weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, MASKED), axis=-1)
    weights *= store.value_scale.swapaxes(1, 2)[:, :, None, None]
    out = wide_einsum("bkgts,bskv->bkgtv", weights.astype(q.dtype), store.values.astype(q.dtype))
    return _joined(out.astype(q.dtype))


def _cut(x: Array, block: int) -> Array:
    """[B, S, ...] as [S / block, B, block, ...]; what is padded does not exist."""
    fill = -1 if jnp.issubdtype(x.dtype, jnp.integer) and x.ndim == 2 else 0
    padding = [(0, 0)] * x.ndim
    padding[1] = (0, -x.shape[1] % block)
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
