"""Cutting sequences into blocks.

Shape letters: B batch, T tokens, C blocks, L tokens of a block.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def into_blocks(x: Array, size: int) -> Array:
    """[B, T, ...] as [C, B, L, ...], padded at the end with zeros."""
    padding = [(0, 0)] * x.ndim
    padding[1] = (0, -x.shape[1] % size)
    x = jnp.pad(x, padding)
    x = x.reshape(x.shape[0], x.shape[1] // size, size, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)


def from_blocks(x: Array, length: int) -> Array:
    """[C, B, L, ...] as [B, T, ...]; the inverse of `into_blocks`."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]


def segments_into_blocks(segments: Array, size: int) -> Array:
    """[B, T] document numbers as [C, B, L]; padding belongs to the last document."""
    pad = -segments.shape[1] % size
    return into_blocks(jnp.pad(segments, ((0, 0), (0, pad)), mode="edge"), size)


# So many small steps in a row are faster than a loop's overhead.
UNROLL = 16


def scan_states(step, state: Array, inputs) -> tuple[Array, Array]:
    """States before each block, [C, ...], and after the last one."""

    def body(state, given):
        return step(state, given), state

    blocks = jax.tree.leaves(inputs)[0].shape[0]
    last, before = jax.lax.scan(body, state, inputs, unroll=min(blocks, UNROLL))
    return before, last
