"""Probability ratios of action chunks at three granularities, and weighted means of them.

Axes: *n samples (policy calls), H horizon, A action dimensions, C executed steps (C <= H). A unit
is what has one ratio: [*n] at level "chunk", [*n, H] at "action", [*n, H, A] at "token".
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from loomax.agents.rl.loss_config import Level, PolicyLossConfig
from loomax.models.flow_vla.density import reduce_elements

REDUCED_AXES = {"chunk": (-2, -1), "action": (-1,), "token": ()}


def weighted_mean(x: Float[Array, "*n"], weight: Float[Array, "*n"]) -> Float[Array, ""]:
    """sum(weight * x) / sum(weight); entries of weight 0 may hold anything; 0 if all do."""
    total = weight.sum()
    kept = jnp.where(weight > 0, x, 0.0)
    return (weight * kept).sum() / jnp.where(total > 0, total, 1.0)


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


def unit_weights(weight: Array, mask: Bool[Array, "*n H A"], level: Level) -> Array:
    """Weights [*n] or [*n, C] per unit at `level`; 0 for units without any element."""
    active = mask.any(axis=REDUCED_AXES[level])
    return jnp.where(active, spread(weight, "weight", mask, level), 0.0)


def log_ratio(
    config: PolicyLossConfig, over: Array, under: Array, mask: Bool[Array, "*n H A"]
) -> Array:
    """log(p_over / p_under) per unit of the config's level, bounded; 0 for units of no element.

    Differences are taken per element before they are joined: more exact, and exactly 0 for equal
    log-probabilities.
    """
    # The gradient of a difference reads neither side, so masking it once is enough.
    difference = over.astype(jnp.float32) - under.astype(jnp.float32)
    joined = reduce_elements(difference, mask, over=config.level, how=config.reduction)
    return jnp.clip(joined, -config.log_ratio_bound, config.log_ratio_bound)


def kl_estimate(log_ratio: Array, estimator: str) -> Array:
    """Estimates KL(p || p_ref) per sample of p; `log_ratio` is log p - log p_ref."""
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    if estimator == "k3":
        return jnp.expm1(-log_ratio) + log_ratio
    raise ValueError(f"kl_estimator={estimator!r} must be one of k1, k2, k3; choose one")
