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


def following_values(
    values: Float[Array, "T *C B"],
    last: Float[Array, " B"],
    final: Float[Array, "T B"],
    done: Bool[Array, "T *C B"],
) -> Float[Array, "T *C B"]:
    """`next_values` from the values along a rollout.

    Args:
        values: of the observation before each step.
        last: of the observation after the rollout.
        final: of the observation on which each chunk ended, before any reset; read only where
            the chunk holds an end.
        done: True at the step that ends an episode.
    """
    same_shapes(values=values, done=done)
    flat = values.reshape(-1, values.shape[-1])
    along = jnp.concatenate([flat[1:], last[None]]).reshape(values.shape)
    ended = final if values.ndim == 2 else final[:, None, :]
    return jnp.where(done, ended, along)


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
    bootstrap: Bootstrap = "truncation",
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """Generalised advantages and returns (advantage + value).

    delta_t = r_t + gamma * V(next_t) - V(t); A_t = delta_t + gamma * lam * A_{t+1}, where A_{t+1}
    is dropped if an episode ended at t. The end of the rollout always bootstraps.

    Args:
        valid: steps that were taken; others are skipped, whatever they hold, and get 0.
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
    )
    valid = jnp.ones_like(terminated) if valid is None else valid
    done = terminated | truncated
    ends = {"truncation": terminated, "always": jnp.zeros_like(done), "none": done}
    if bootstrap not in ends:
        raise ValueError(f"bootstrap={bootstrap!r} must be one of {', '.join(ends)}; choose one")
    values = jnp.where(valid, values, 0.0)
    following = jnp.where(valid & jnp.logical_not(ends[bootstrap]), next_values, 0.0)
    delta = jnp.where(valid, rewards, 0.0) + gamma * following - values

    def step(ahead, now):
        delta, done, valid = now
        advantage = delta + gamma * lam * jnp.where(done, 0.0, ahead)
        return jnp.where(valid, advantage, ahead), jnp.where(valid, advantage, 0.0)

    start = jnp.zeros_like(delta[0])
    advantages = jax.lax.scan(step, start, (delta, done, valid), reverse=True)[1]
    return advantages, advantages + values


def gae_actions(
    rewards: Float[Array, "T C B"],
    values: Float[Array, "T C B"],
    next_values: Float[Array, "T C B"],
    terminated: Bool[Array, "T C B"],
    truncated: Bool[Array, "T C B"],
    gamma: float,
    lam: float,
    *,
    valid: Bool[Array, "T C B"],
    bootstrap: Bootstrap = "truncation",
) -> tuple[Float[Array, "T C B"], Float[Array, "T C B"]]:
    """`gae` with every executed step as one step; gamma and lam act per executed step."""
    same_shapes(
        rewards=rewards,
        values=values,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
    )
    flat = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
    both = gae(
        flat(rewards),
        flat(values),
        flat(next_values),
        flat(terminated),
        flat(truncated),
        gamma,
        lam,
        valid=flat(valid),
        bootstrap=bootstrap,
    )
    return both[0].reshape(rewards.shape), both[1].reshape(rewards.shape)


def credit(
    config: CreditConfig,
    rewards: Float[Array, "T C B"],
    values: Float[Array, "T *C B"],
    next_values: Float[Array, "T *C B"],
    terminated: Bool[Array, "T C B"],
    truncated: Bool[Array, "T C B"],
    valid: Bool[Array, "T C B"],
) -> tuple[Float[Array, "T *C B"], Float[Array, "T *C B"]]:
    """Advantages (normalised if the config says so) and value targets, at the config's level.

    Args:
        values, next_values: [T, B] at level "chunk", [T, C, B] at level "action".

    Raises:
        ValueError: for a refused config or shapes that do not fit its level.
    """
    config.validate()
    same_shapes(rewards=rewards, terminated=terminated, truncated=truncated, valid=valid)
    options = {"gamma": config.gamma, "lam": config.lam, "bootstrap": config.bootstrap}
    if config.level == "chunk":
        live = chunk_valid(valid)
        ends = ((flag & valid).any(axis=1) for flag in (terminated, truncated))
        reward = chunk_sum(rewards, valid)
        same_shapes(chunk_rewards=reward, values=values, next_values=next_values)
        advantages, targets = gae(reward, values, next_values, *ends, valid=live, **options)
    else:
        live = valid
        same_shapes(rewards=rewards, values=values, next_values=next_values)
        inputs = (rewards, values, next_values, terminated, truncated)
        advantages, targets = gae_actions(*inputs, valid=live, **options)
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
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """(R - mean) / (std + eps) within groups of neighbours, with the unbiased std.

    Args:
        low, high: groups with a mean return outside get advantage 0 and are not kept.

    Returns:
        Advantages and which environments are kept.

    Raises:
        ValueError: if the environments do not divide into groups of at least two.
    """
    check_groups(returns.shape[0], group_size)
    groups = returns.reshape(-1, group_size)
    # Relative to a member, so that equal returns centre to exactly 0 whatever their size;
    # rounding of the mean would otherwise be blown up by the division.
    offset = groups - groups[:, :1]
    centred = offset - offset.mean(axis=1, keepdims=True)
    std = jnp.sqrt((centred * centred).sum(axis=1, keepdims=True) / (group_size - 1))
    keep = group_filter(returns, group_size, low, high)
    return jnp.where(keep, (centred / (std + eps)).reshape(-1), 0.0), keep


def group_credit(
    config: GroupConfig, rewards: Float[Array, "T C B"], valid: Bool[Array, "T C B"]
) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """`group_advantages` of episode returns as the config says; see there."""
    config.validate()
    returns = episode_returns(rewards, valid)
    bounds = {"low": config.filter_low, "high": config.filter_high}
    return group_advantages(returns, config.size, eps=config.eps, **bounds)
