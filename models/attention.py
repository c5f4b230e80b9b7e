"""Grouped-query attention and block masks.

Shape letters: B batch, Q queries, S keys, N query heads, K key-value heads, H head width,
V value width.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from loomax.models.layers import wide_einsum

# Finite, so that a row without any valid key gives a mean instead of NaN.
MASKED = -2.3819763e38


def attend(
    q: Float[Array, "B Q N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K V"],
    mask: Bool[Array, "B Q S"],
    scale: float | None = None,
) -> Float[Array, "B Q N V"]:
    """softmax(scale q k) v with float32 logits; N / K query heads share a key head.

    Args:
        scale: 1 / sqrt(H) unless given.

    Raises:
        ValueError: if the key-value heads do not divide the query heads.
    """
    batch, queries, heads, width = q.shape
    groups, rest = divmod(heads, k.shape[2])
    if rest:
        raise ValueError(f"{k.shape[2]} key-value heads do not divide {heads} query heads")
    # The heads of a group become extra queries, so a group is one matrix product.
    grouped = q.reshape(batch, queries, k.shape[2], groups, width).swapaxes(1, 2)
    grouped = (grouped * (width**-0.5 if scale is None else scale)).reshape(
        batch, k.shape[2], queries * groups, width
    )
    logits = wide_einsum("bkqh,bskh->bkqs", grouped, k)
    rows = jnp.repeat(mask, groups, axis=1)[:, None]
    weights = jax.nn.softmax(jnp.where(rows, logits, MASKED), axis=-1).astype(v.dtype)
    out = jnp.einsum("bkqs,bskh->bkqh", weights, v)
    out = out.reshape(batch, k.shape[2], queries, groups, v.shape[-1]).swapaxes(1, 2)
    return out.reshape(batch, queries, heads, v.shape[-1])


def block_mask(valid: Bool[Array, "B S"], blocks: Int[Array, " S"]) -> Bool[Array, "B S S"]:
    """Which query (second axis) sees which key (third): valid keys of its own or earlier blocks.

    Args:
        valid: False for padding, which nothing attends to.
        blocks: non-decreasing block number of every token.
    """
    ordered = blocks[None, :] <= blocks[:, None]
    return ordered[None] & valid[:, None, :]


def positions_of(valid: Bool[Array, "B S"]) -> Int[Array, "B S"]:
    """Positions that count valid tokens only, so padding shifts nothing."""
    return jnp.cumsum(valid.astype(jnp.int32), axis=-1) - 1
