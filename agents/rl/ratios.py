"""Probability ratios of action chunks at three granularities, and weighted means of them.

Axes: *n samples (policy calls), H horizon, A action dimensions, C executed steps (C <= H). A unit
is what has one ratio: [*n] at level "chunk", [*n, H] at "action", [*n, H, A] at "token".
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from loomax.agents.rl.loss_config import Level, PolicyLossConfig, Reduction

REDUCED_AXES = {"chunk": (-2, -1), "action": (-1,), "token": ()}


def weighted_mean(x: Float[Array, "*n"], weight: Float[Array, "*n"]) -> Float[Array, ""]:
    """sum(weight * x) / sum(weight); entries of weight 0 may hold anything; 0 if all do."""
    total = weight.sum()
    kept = jnp.where(weight > 0, x, 0.0)
    return (weight * kept).sum() / jnp.where(total > 0, total, 1.0)


def reduce_elements(
    x: Float[Array, "*n H A"], mask: Bool[Array, "*n H A"], level: Level, reduction: Reduction
) -> tuple[Array, Array]:
    """Joins masked-in elements into one number per chunk, per action, or none at "token".

    Returns:
        The numbers and which of them hold at least one element; shapes [*n], [*n, H], [*n, H, A].
    """
    axes = REDUCED_AXES[level]
    total = jnp.where(mask, x, 0.0).sum(axis=axes)
    if reduction == "mean":
        total = total / jnp.maximum(mask.sum(axis=axes, dtype=x.dtype), 1.0)
    return total, mask.any(axis=axes)


def spread(x: Array, name: str, like: Array, level: Level) -> Array:
    """Brings [*n] or [*n, C] to the shape of units at `level`, of elements `like` [*n, H, A]."""
    batch, horizon = like.shape[:-2], like.shape[-2]
    given = "chunk" if x.shape == batch else "action"
    steps = x.ndim == len(batch) + 1 and x.shape[:-1] == batch and x.shape[-1] <= horizon
    if given == "action" and (not steps or level == "chunk"):
        raise ValueError(
            f"{name} has shape {x.shape}, expected {batch}, or {batch} + (steps up to {horizon},) "
            f'with level "action" or "token" (it is {level!r}); set loss.level or reshape'
        )
    if given == "action":
        x = jnp.pad(x, [(0, 0)] * len(batch) + [(0, horizon - x.shape[-1])])
    axes = len(REDUCED_AXES["chunk"]) - len(REDUCED_AXES[level])
    x = x.reshape(x.shape + (1,) * (len(batch) + axes - x.ndim))
    return jnp.broadcast_to(x, like.shape[: len(batch) + axes])


def log_ratio(
    config: PolicyLossConfig, over: Array, under: Array, mask: Bool[Array, "*n H A"]
) -> tuple[Array, Array]:
    """log(p_over / p_under) per unit of the config's level, bounded, and which units count.

    Differences are taken per element before they are joined: more exact, and exactly 0 for equal
    log-probabilities.
    """
    over, under = (jnp.where(mask, x.astype(jnp.float32), 0.0) for x in (over, under))
    joined, active = reduce_elements(over - under, mask, config.level, config.reduction)
    return jnp.clip(joined, -config.log_ratio_bound, config.log_ratio_bound), active


def kl_estimate(log_ratio: Array, estimator: str) -> Array:
    """Estimates KL(p || p_ref) per sample of p; `log_ratio` is log p - log p_ref."""
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    if estimator == "k3":
        return jnp.expm1(-log_ratio) + log_ratio
    raise ValueError(f"kl_estimator={estimator!r} must be one of k1, k2, k3; choose one")
