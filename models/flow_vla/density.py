"""Element-wise normal densities and explicit reductions.

Shape letters: B batch, H horizon, A action size.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from loomax.models.flow_vla.sampler_config import SamplerConfig

LOG_TWO_PI = float(np.log(2 * np.pi))


def normal_log_prob(x: Array, mean: ArrayLike, std: ArrayLike) -> Array:
    """log N(x; mean, std^2) of every element, exactly 0 where std is 0."""
    std = jnp.asarray(std)
    safe = jnp.where(std > 0, std, 1.0)
    density = -0.5 * (jnp.square((x - mean) / safe) + LOG_TWO_PI) - jnp.log(safe)
    return jnp.where(std > 0, density, 0.0)


def normal_entropy(std: Array) -> Array:
    """0.5 log(2 pi e std^2) of every element, exactly 0 where std is 0."""
    safe = jnp.where(std > 0, std, 1.0)
    return jnp.where(std > 0, 0.5 * (LOG_TWO_PI + 1) + jnp.log(safe), 0.0)


def combine_steps(config: SamplerConfig, total: Array, start: Array) -> Array:
    """Joins the terms of a chain as the config says.

    Args:
        total: the sum over the K steps.
        start: the term of the initial noise, which no policy changes. RLinf's Flow-Noise is
            `steps_reduction="mean"` with `include_start=True`: K + 1 terms averaged.
    """
    count = config.steps
    if config.include_start:
        total, count = total + start, count + 1
    return total / count if config.steps_reduction == "mean" else total


def reduce_elements(
    values: Float[Array, "B H A"],
    mask: Array,
    *,
    over: Literal["chunk", "action", "token"] = "chunk",
    how: Literal["sum", "mean"] = "sum",
) -> Array:
    """Joins masked-in elements per chunk [B], per action [B, H], or not at all [B, H, A].

    Args:
        mask: which elements are real (executed steps, used dimensions); broadcasts to `values`.
            What is masked out leaves no trace, not even in the gradient.
    """
    real = jnp.broadcast_to(mask, values.shape).astype(bool)
    kept = jnp.where(real, values, 0.0)
    if over == "token":
        return kept
    axes = (-2, -1) if over == "chunk" else (-1,)
    total = kept.sum(axes)
    return total / jnp.maximum(real.sum(axes), 1) if how == "mean" else total
