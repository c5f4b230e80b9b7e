"""Rotary position embedding (first half of a head paired with the second, as in Gemma).

Shape letters: B batch, S tokens, N heads, H head width.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotate(
    x: Float[Array, "B S N H"], positions: Int[Array, "B S"], longest: float = 10_000.0
) -> Float[Array, "B S N H"]:
    """Rotates each pair (i, i + H/2) by position * longest^(-2i/H); float32 inside."""
    half = x.shape[-1] // 2
    timescale = longest ** (jnp.arange(half, dtype=jnp.float32) / half)
    return rotate_by(x, positions.astype(jnp.float32)[..., None, None] / timescale)


def rotate_by(
    x: Float[Array, "B S N H"], angle: Float[Array, "B S 1 H//2"]
) -> Float[Array, "B S N H"]:
    """Rotates each pair (i, i + H/2) by its angle in radians; float32 inside."""
    return rotate_with(x, jnp.cos(angle), jnp.sin(angle))


def rotate_with(
    x: Float[Array, "B S N H"],
    cos: Float[Array, "B S 1 H//2"],
    sin: Float[Array, "B S 1 H//2"],
) -> Float[Array, "B S N H"]:
    """Rotates each pair (i, i + H/2) by the angle that has this cosine and sine."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
