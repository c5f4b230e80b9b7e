"""Short causal depthwise convolution with a memory of its last inputs.

Shape letters: B batch, T tokens, W taps, P = W - 1 past inputs, D channels.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def causal(
    x: Float[Array, "B T D"],
    taps: Float[Array, "W D"],
    past: Float[Array, "B P D"],
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T D"]:
    """y_t = sum_i taps_i x_{t - W + 1 + i}, within a document only; `past` precedes the first."""
    length, width = x.shape[1], taps.shape[0]
    joined = jnp.concatenate([past.astype(x.dtype), x], axis=1)
    out = jnp.zeros_like(x)
    for i in range(width):
        term = joined[:, i : i + length] * taps[i].astype(x.dtype)
        if segments is not None:
            back = width - 1 - i
            ahead = jnp.pad(segments, ((0, 0), (back, 0)), mode="edge")[:, :length]
            term = jnp.where((ahead == segments)[..., None], term, 0)
        out = out + term
    return out


def remember(
    x: Float[Array, "B T D"], past: Float[Array, "B P D"], count: Int[Array, " B"]
) -> Float[Array, "B P D"]:
    """The last P inputs once the first `count` of a block were real."""
    joined = jnp.concatenate([past, x.astype(past.dtype)], axis=1)
    index = count[:, None] + jnp.arange(past.shape[1])
    return jnp.take_along_axis(joined, index[..., None], axis=1)
