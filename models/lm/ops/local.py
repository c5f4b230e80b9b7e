"""Sliding-window attention in blocks as long as the window: cost T * 2W instead of T * S.

Shape letters: B batch, T tokens, W window, R slots of a ring of earlier keys, C blocks, N query
heads, K key-value heads, H head width.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loomax.models.attention import attend
from loomax.models.lm.ops.attend import Places, visible


def windowed(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    places: Places,
    past: tuple[Float[Array, "B R K H"], Float[Array, "B R K H"], Int[Array, "B R"]] | None,
    *,
    window: int,
    scale: float,
) -> Float[Array, "B T N H"]:
    """Each token sees itself and the `window` - 1 tokens before it.

    Args:
        past: keys, values and positions of at least the last `window` - 1 earlier tokens, in any
            order; a position of -1 marks an empty slot.
    """
    length = q.shape[1]
    size = min(window, length)
    blocks = -(-length // size)

    def cut(x, fill=0):
        padding = [(0, 0)] * x.ndim
        padding[1] = (0, blocks * size - length)
        x = jnp.pad(x, padding, constant_values=fill)
        return x.reshape(x.shape[0], blocks, size, *x.shape[2:])

    at = cut(places.positions, -1)
    segments = None if places.segments is None else cut(places.segments, -1)
    q, k, v = cut(q), cut(k), cut(v)
    if blocks == 1 and past is None:
        folded = (k, v, at, segments)
    elif blocks == 1:
        # Packed rows have no past, so a ring needs no documents.
        folded = tuple(
            jnp.concatenate([old[:, None], new], axis=2)
            for old, new in zip(past, (k, v, at), strict=True)
        ) + (None,)
    else:
        folded = (*_with_previous(k, v, at, past), _previous_segments(segments))
    return _attend(q, at, segments, folded, window, scale)[:, :length]


def _with_previous(k: Array, v: Array, at: Array, past) -> list[Array]:
    """Every block's keys behind those of the block before it; the ring comes before the first."""
    size = k.shape[2]
    if past is None:
        past = (jnp.zeros_like(k[:, 0]), jnp.zeros_like(v[:, 0]), jnp.full_like(at[:, 0], -1))
    if past[0].shape[1] != size:
        raise ValueError(f"a ring of {past[0].shape[1]} slots before blocks of {size} tokens")
    joined = []
    for first, x in zip(past, (k, v, at), strict=True):
        before = jnp.concatenate([first[:, None], x[:, :-1]], axis=1)
        joined.append(jnp.concatenate([before, x], axis=2))
    return joined


def _previous_segments(segments: Array | None) -> Array | None:
    if segments is None:
        return None
    before = jnp.concatenate([jnp.full_like(segments[:, :1], -1), segments[:, :-1]], axis=1)
    return jnp.concatenate([before, segments], axis=2)


def _attend(q: Array, at: Array, segments, folded, window: int, scale: float) -> Array:
    """Dense attention in every block; blocks are folded into the batch."""
    batch, blocks = q.shape[:2]

    def fold(x):
        return None if x is None else x.reshape(batch * blocks, *x.shape[2:])

    k, v, where, documents = (fold(x) for x in folded)
    seen = visible(Places(fold(at), fold(segments)), Places(where, documents), window)
    out = attend(fold(q), k, v, seen, scale)
    return out.reshape(batch, -1, *out.shape[2:])


def ring_positions(start: Int[Array, " B"], slots: int) -> Int[Array, "B R"]:
    """Position held by each slot of a ring after `start` tokens; -1 for an empty slot."""
    newest = start[:, None] - 1
    slot = jnp.arange(slots, dtype=start.dtype)
    return jnp.maximum(newest - (newest - slot) % slots, -1)


def ring_write(
    ring: Float[Array, "B R K H"],
    new: Float[Array, "B T K H"],
    start: Int[Array, " B"],
    count: Int[Array, " B"],
) -> Float[Array, "B R K H"]:
    """The ring after the first `count` of a block's tokens; later ones overwrite earlier ones."""
    slots, length = ring.shape[1], new.shape[1]
    index = jnp.arange(length, dtype=start.dtype)
    kept = (index < count[:, None]) & (index >= count[:, None] - slots)
    slot = jnp.where(kept, (start[:, None] + index) % slots, slots)
    return jax.vmap(lambda r, s, x: r.at[s].set(x, mode="drop"))(ring, slot, new.astype(ring.dtype))
