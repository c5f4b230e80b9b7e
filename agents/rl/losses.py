"""PPO and GRPO losses over element-wise log-probabilities of action chunks.

Axes: *n samples (policy calls), H horizon, A action dimensions, C executed steps (C <= H).
Chunk-level arrays have shape [*n]; action-level ones [*n, C] or [*n, H], steps LAST.

A masked entry leaves no trace: it may hold inf or NaN, adds nothing to the loss, and its gradient
is exactly zero. Every mean is over the global batch under `jit`.

Sources: Schulman et al. 2017, arXiv:1707.06347 (clip); Ye et al. 2020, arXiv:1912.09729 (dual
clip); Schulman 2020, "Approximating KL divergence" (k1, k2, k3); Shao et al. 2024,
arXiv:2402.03300 (GRPO).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from loomax.agents.rl.loss_config import (
    GRPOLossConfig,
    Level,
    PolicyLossConfig,
    PPOLossConfig,
)
from loomax.agents.rl.masks import chunk_valid, length_weights, same_shapes
from loomax.agents.rl.ratios import (
    kl_estimate,
    log_ratio,
    spread,
    unit_weights,
    weighted_mean,
)
from loomax.models.flow_vla.density import reduce_elements

Metrics = dict[str, Array]


@struct.dataclass
class PolicyBatch:
    """What the policy loss reads.

    Args:
        log_prob: of the current policy; the gradient flows here and into `entropy` only.
        advantage: [*n] or [*n, C].
        mask: elements that count (`masks.element_mask`).
        weight: >= 0, [*n] or [*n, C]; 0 drops an entry (`loss_weights`).
        entropy: per element, needed if entropy_coef > 0.
        ref_log_prob: of the reference policy, needed if kl_coef > 0.
    """

    log_prob: Float[Array, "*n H A"]
    old_log_prob: Float[Array, "*n H A"]
    advantage: Float[Array, "..."]
    mask: Bool[Array, "*n H A"]
    weight: Float[Array, "..."]
    entropy: Float[Array, "*n H A"] | None = None
    ref_log_prob: Float[Array, "*n H A"] | None = None


@struct.dataclass
class ValueBatch:
    """What the value loss reads: all of one shape, [*n] or [*n, C]; weight 0 drops an entry."""

    value: Float[Array, "*m"]
    old_value: Float[Array, "*m"]
    target: Float[Array, "*m"]
    weight: Float[Array, "*m"]


def loss_weights(
    config: PolicyLossConfig,
    level: Level,
    valid: Bool[Array, "T C B"],
    done: Bool[Array, "T C B"],
    keep: Bool[Array, " B"] | None = None,
) -> Float[Array, "T *C B"]:
    """Weights of a whole rollout: [T, B] at level "chunk", else [T, C, B]; 0 if not valid.

    Args:
        level: of what is weighed: `config.level` for the policy, `credit.level` for the values.
        done: True at the step that ends an episode.
        keep: environments that train (of the group filter).
    """
    same_shapes(valid=valid, done=done)
    if level == "chunk":
        done, valid = (done & valid).any(axis=1), chunk_valid(valid)
    if keep is not None:
        valid = valid & keep
    return length_weights(valid, done) if config.length_normalise else valid.astype(jnp.float32)


def clipped_surrogate(config: PolicyLossConfig, ratio: Array, advantage: Array) -> Array:
    """The loss per unit: -min(r A, clip(r) A), and at most -c A for negative A (dual clip)."""
    clipped = jnp.clip(ratio, 1 - config.clip_low, 1 + config.clip_high)
    gain = jnp.minimum(ratio * advantage, clipped * advantage)
    if config.dual_clip is not None:
        bounded = jnp.maximum(gain, config.dual_clip * advantage)
        gain = jnp.where(advantage < 0, bounded, gain)
    return -gain


def policy_loss(config: PolicyLossConfig, batch: PolicyBatch) -> tuple[Float[Array, ""], Metrics]:
    """Clipped surrogate - entropy bonus + divergence from the reference, with its metrics.

    Raises:
        ValueError: for a refused config, an input that it needs and lacks, or unequal shapes.
    """
    config.validate()
    _check_inputs(config, batch)
    frozen = jax.lax.stop_gradient(batch.replace(log_prob=batch.old_log_prob, entropy=None))
    logs = log_ratio(config, batch.log_prob, frozen.old_log_prob, batch.mask)
    weight = unit_weights(frozen.weight, batch.mask, config.level)
    counts = weight > 0
    # Before exp: a dropped unit may hold a log-ratio that is not finite.
    logs = jnp.where(counts, logs, 0.0)
    advantage = spread(frozen.advantage, "advantage", batch.mask, config.level)
    advantage = jnp.where(counts, advantage.astype(jnp.float32), 0.0)
    ratio = jnp.exp(logs)
    surrogate = weighted_mean(clipped_surrogate(config, ratio, advantage), weight)
    loss, metrics = surrogate, _ratio_metrics(config, logs, ratio, advantage, counts)
    metrics["policy_loss"] = surrogate
    if batch.entropy is not None:
        level = "chunk" if frozen.weight.shape == batch.mask.shape[:-2] else "action"
        each = batch.entropy.astype(jnp.float32)
        each = reduce_elements(each, batch.mask, over=level, how="mean")
        weights = unit_weights(frozen.weight, batch.mask, level)
        metrics["entropy"] = weighted_mean(each, weights)
        loss = loss - config.entropy_coef * metrics["entropy"]
    if batch.ref_log_prob is not None:
        logs = log_ratio(config, batch.log_prob, frozen.ref_log_prob, batch.mask)
        logs = jnp.where(counts, logs, 0.0)
        metrics["ref_kl"] = weighted_mean(kl_estimate(logs, config.kl_estimator), weight)
        loss = loss + config.kl_coef * metrics["ref_kl"]
    return loss, metrics


def _check_inputs(config: PolicyLossConfig, batch: PolicyBatch) -> None:
    same_shapes(
        log_prob=batch.log_prob,
        old_log_prob=batch.old_log_prob,
        mask=batch.mask,
        entropy=batch.entropy,
        ref_log_prob=batch.ref_log_prob,
    )
    needs = (("entropy", config.entropy_coef), ("kl", config.kl_coef))
    for (name, coef), given in zip(needs, (batch.entropy, batch.ref_log_prob), strict=True):
        if coef > 0 and given is None:
            missing = "entropy" if name == "entropy" else "ref_log_prob"
            raise ValueError(
                f"loss.{name}_coef={coef} needs batch.{missing}, which is None; "
                "give it or set the coefficient to 0"
            )


def _ratio_metrics(config, logs, ratio, advantage, counts) -> Metrics:
    one = counts.astype(jnp.float32)
    outside = (ratio < 1 - config.clip_low) | (ratio > 1 + config.clip_high)
    metrics = {
        "ratio_mean": weighted_mean(ratio, one),
        "ratio_max": jnp.where(counts, ratio, 0.0).max(),
        # Samples are of the old policy, so this is KL(old || new).
        "approx_kl": weighted_mean(kl_estimate(-logs, "k3"), one),
        "clip_fraction": weighted_mean(outside.astype(jnp.float32), one),
        "valid_fraction": one.mean(),
    }
    if config.dual_clip is not None:
        beyond = (advantage < 0) & (ratio > config.dual_clip)
        metrics["dual_clip_fraction"] = weighted_mean(beyond.astype(jnp.float32), one)
    return jax.lax.stop_gradient(metrics)


def huber(error: Array, delta: float | None) -> Array:
    """error^2 / 2, linear beyond `delta`; None keeps it quadratic everywhere."""
    if delta is None:
        return 0.5 * error**2
    size = jnp.abs(error)
    inner = jnp.minimum(size, delta)
    return inner * (size - 0.5 * inner)


def explained_variance(value: Array, target: Array, weight: Array) -> Float[Array, ""]:
    """1 - Var(target - value) / Var(target) over entries that count; 0 if targets are equal."""

    def variance(x):
        x = jnp.where(weight > 0, x, 0.0)
        return weighted_mean((x - weighted_mean(x, weight)) ** 2, weight)

    whole = variance(target)
    flat = whole <= 0
    ratio = variance(target - value) / jnp.where(flat, 1.0, whole)
    return jax.lax.stop_gradient(jnp.where(flat, 0.0, 1.0 - ratio))


def value_loss(config: PPOLossConfig, batch: ValueBatch) -> tuple[Float[Array, ""], Metrics]:
    """Huber loss of the value, the larger of clipped and unclipped, with its metrics."""
    config.validate()
    same_shapes(
        value=batch.value, old_value=batch.old_value, target=batch.target, weight=batch.weight
    )
    weight = jax.lax.stop_gradient(batch.weight)
    cleaned = batch.replace(weight=weight, old_value=jax.lax.stop_gradient(batch.old_value))
    cleaned = cleaned.replace(target=jax.lax.stop_gradient(batch.target))
    value, old, target = (
        jnp.where(weight > 0, x.astype(jnp.float32), 0.0)
        for x in (cleaned.value, cleaned.old_value, cleaned.target)
    )
    each = huber(value - target, config.huber_delta)
    metrics = {"explained_variance": explained_variance(value, target, weight)}
    if config.value_clip is not None:
        moved = value - old
        near = old + jnp.clip(moved, -config.value_clip, config.value_clip)
        each = jnp.maximum(each, huber(near - target, config.huber_delta))
        beyond = (jnp.abs(moved) > config.value_clip).astype(jnp.float32)
        metrics["value_clip_fraction"] = weighted_mean(beyond, (weight > 0).astype(jnp.float32))
    metrics["value_loss"] = weighted_mean(each, weight)
    return metrics["value_loss"], metrics


def ppo_loss(
    config: PPOLossConfig, policy: PolicyBatch, values: ValueBatch
) -> tuple[Float[Array, ""], Metrics]:
    """policy_loss + value_coef * value_loss, and the metrics of both and "loss"."""
    actor, metrics = policy_loss(config, policy)
    critic, more = value_loss(config, values)
    loss = actor + config.value_coef * critic
    return loss, metrics | more | {"loss": loss}


def grpo_loss(config: GRPOLossConfig, policy: PolicyBatch) -> tuple[Float[Array, ""], Metrics]:
    """policy_loss with the group advantage of its episode as every sample's advantage."""
    loss, metrics = policy_loss(config, policy)
    return loss, metrics | {"loss": loss}
