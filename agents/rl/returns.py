"""Advantages and value targets.

Axes: T policy calls, C executed steps of a chunk, B environments.

`next_values[t]` is the value of the observation that follows step t. Where an episode ended at t
it is the value of its FINAL observation, never of the fresh episode after it.

Sources: Schulman et al. 2016, arXiv:1506.02438 (generalised advantages); Pardo et al. 2018,
arXiv:1712.00378 (bootstrapping at time limits); Shao et al. 2024, arXiv:2402.03300 (groups).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from loomax.agents.rl.loss_config import Bootstrap, CreditConfig, GroupConfig
from loomax.agents.rl.masks import (
    check_groups,
    chunk_sum,
    chunk_valid,
    group_filter,
    same_shapes,
)


def gae(
    rewards: Float[Array, "T B"],
    values: Float[Array, "T B"],
    next_values: Float[Array, "T B"],
    terminated: Bool[Array, "T B"],
    truncated: Bool[Array, "T B"],
    gamma: float,
    lam: float,
    *,
    valid: Bool[Array, "T B"] | None = None,
    cut: Bool[Array, "T B"] | None = None,
    bootstrap: Bootstrap = "truncation",
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """Generalised advantages and returns (advantage + value).

    delta_t = r_t + gamma * V(next_t) - V(t); A_t = delta_t + gamma * lam * A_{t+1}, where A_{t+1}
    is dropped if an episode ended at t. The end of the rollout always bootstraps.

    Args:
        valid: steps that were taken; others are skipped, whatever they hold, and get 0.
        cut: steps that are not valid and after which another episode begins: what is before them
            ends like the rollout does.
        bootstrap: which ends keep V(next_t): "truncation" those that are truncated and not
            terminated, "always" all, "none" no end.

    Raises:
        ValueError: for unequal shapes or an unknown `bootstrap`.
    """
    same_shapes(
        rewards=rewards,
        values=values,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        cut=cut,
    )
    valid = jnp.ones_like(terminated) if valid is None else valid
    cut = jnp.zeros_like(terminated) if cut is None else cut
    done = terminated | truncated
    ends = {"truncation": terminated, "always": jnp.zeros_like(done), "none": done}
    if bootstrap not in ends:
        raise ValueError(f"bootstrap={bootstrap!r} must be one of {', '.join(ends)}; choose one")
    values = jnp.where(valid, values, 0.0)
    following = jnp.where(valid & jnp.logical_not(ends[bootstrap]), next_values, 0.0)
    delta = jnp.where(valid, rewards, 0.0) + gamma * following - values

    def step(ahead, now):
        delta, done, valid, cut = now
        advantage = delta + gamma * lam * jnp.where(done, 0.0, ahead)
        passed = jnp.where(cut, 0.0, ahead)
        return jnp.where(valid, advantage, passed), jnp.where(valid, advantage, 0.0)

    start = jnp.zeros_like(delta[0])
    advantages = jax.lax.scan(step, start, (delta, done, valid, cut), reverse=True)[1]
    return advantages, advantages + values


def credit(
    config: CreditConfig,
    rewards: Float[Array, "T C B"],
    values: Float[Array, "T B"],
    next_values: Float[Array, "T B"],
    terminated: Bool[Array, "T C B"],
    truncated: Bool[Array, "T C B"],
    valid: Bool[Array, "T C B"],
    cut: Bool[Array, "T B"] | None = None,
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """Advantages (normalised if the config says so) and value targets, one per policy call.

    Args:
        cut: see `gae`.

    Raises:
        ValueError: for a refused config or unequal shapes.
    """
    config.validate()
    same_shapes(rewards=rewards, terminated=terminated, truncated=truncated, valid=valid)
    live, reward = chunk_valid(valid), chunk_sum(rewards, valid)
    same_shapes(chunk_rewards=reward, values=values, next_values=next_values)
    ends = ((flag & valid).any(axis=1) for flag in (terminated, truncated))
    advantages, targets = gae(
        reward,
        values,
        next_values,
        *ends,
        gamma=config.gamma,
        lam=config.lam,
        valid=live,
        cut=cut,
        bootstrap=config.bootstrap,
    )
    if config.normalise:
        advantages = normalise(advantages, live, eps=config.eps)
    return advantages, targets


def normalise(
    advantages: Float[Array, "*n"], mask: Bool[Array, "*n"], eps: float = 1e-5
) -> Float[Array, "*n"]:
    """(A - mean) / (std + eps) over all masked-in entries; others become 0.

    The standard deviation is that of the population. Sums run over the whole array, so under
    `jit` with a sharded batch the statistics are those of the global batch.
    """
    same_shapes(advantages=advantages, mask=mask)
    count = jnp.maximum(mask.sum(dtype=advantages.dtype), 1.0)
    mean = jnp.where(mask, advantages, 0.0).sum() / count
    centred = jnp.where(mask, advantages - mean, 0.0)
    std = jnp.sqrt((centred * centred).sum() / count)
    return centred / (std + eps)


def episode_returns(
    rewards: Float[Array, "T C B"], valid: Bool[Array, "T C B"]
) -> Float[Array, " B"]:
    """Undiscounted return of the one episode of each environment (no auto-reset)."""
    return chunk_sum(rewards, valid).sum(axis=0)


def group_advantages(
    returns: Float[Array, " B"],
    group_size: int,
    *,
    eps: float = 1e-6,
    low: float | None = None,
    high: float | None = None,
    sound: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """(R - mean) / (std + eps) within groups of neighbours, with the unbiased std.

    Args:
        low, high: groups with a mean return outside get advantage 0 and are not kept.
        sound: episodes that count; others get advantage 0, are not kept, and the rest of their
            group is compared as if they had not been. None counts all.

    Returns:
        Advantages and which environments are kept.

    Raises:
        ValueError: if the environments do not divide into groups of at least two.
    """
    check_groups(returns.shape[0], group_size)
    sound = jnp.ones(returns.shape, bool) if sound is None else sound
    groups, live = returns.reshape(-1, group_size), sound.reshape(-1, group_size)
    count = live.sum(axis=1, keepdims=True)
    # Relative to a member, so that equal returns centre to exactly 0 whatever their size;
    # rounding of the mean would otherwise be blown up by the division.
    first = jnp.take_along_axis(groups, jnp.argmax(live, axis=1, keepdims=True), axis=1)
    offset = jnp.where(live, groups - first, 0.0)
    mean = offset.sum(axis=1, keepdims=True) / jnp.maximum(count, 1)
    centred = jnp.where(live, offset - mean, 0.0)
    std = jnp.sqrt((centred * centred).sum(axis=1, keepdims=True) / jnp.maximum(count - 1, 1))
    keep = sound & group_filter(returns, group_size, low, high, sound)
    return jnp.where(keep, (centred / (std + eps)).reshape(-1), 0.0), keep


def group_credit(
    config: GroupConfig,
    rewards: Float[Array, "T C B"],
    valid: Bool[Array, "T C B"],
    sound: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """`group_advantages` of episode returns as the config says; see there."""
    config.validate()
    returns = episode_returns(rewards, valid)
    bounds = {"low": config.filter_low, "high": config.filter_high}
    return group_advantages(returns, config.size, eps=config.eps, sound=sound, **bounds)
