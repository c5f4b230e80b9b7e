"""Rotary position embedding in Gemma's layout (first half of a head paired with the second)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotate(
    x: Float[Array, "B S N H"], positions: Int[Array, "B S"], longest: float = 10_000.0
) -> Float[Array, "B S N H"]:
    """Rotates each pair (i, i + H/2) by position * longest^(-2i/H); float32 inside."""
    half = x.shape[-1] // 2
    timescale = longest ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions.astype(jnp.float32)[..., None, None] / timescale
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
