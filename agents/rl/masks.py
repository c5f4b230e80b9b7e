"""Which steps and elements count.

Axes: T policy calls, C executed steps of a chunk, B environments, H horizon (actions that the
policy emits, H >= C), A action dimensions.

An episode that ends inside a chunk is held still until the chunk is over, so the rest of the
chunk is not valid. With auto-reset a fresh episode starts with the next chunk; without it nothing
later is valid.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def same_shapes(**arrays: Array | None) -> None:
    """Raises ValueError unless all given arrays have the shape of the first."""
    given = {name: x.shape for name, x in arrays.items() if x is not None}
    first = next(iter(given))
    for name, shape in given.items():
        if shape != given[first]:
            raise ValueError(
                f"{name} has shape {shape}, expected {given[first]}, the shape of {first}; "
                "give both the same axes"
            )


def step_validity(done: Bool[Array, "T C B"], auto_reset: bool) -> Bool[Array, "T C B"]:
    """Marks the steps that a live episode took, its last one included.

    Args:
        done: True at the step that ends an episode; steps held still may repeat the flag.
        auto_reset: whether a fresh episode starts with the chunk after an end.
    """
    axis = 1 if auto_reset else 0
    flags = done if auto_reset else done.reshape(-1, done.shape[-1])
    ends = jnp.cumsum(flags.astype(jnp.int32), axis=axis)
    return (ends - flags.astype(jnp.int32) == 0).reshape(done.shape)


def chunk_sum(x: Float[Array, "T C B"], valid: Bool[Array, "T C B"]) -> Float[Array, "T B"]:
    """Sum over the valid steps of each chunk; what invalid steps hold does not matter."""
    return jnp.where(valid, x, 0.0).sum(axis=1)


def chunk_valid(valid: Bool[Array, "T C B"]) -> Bool[Array, "T B"]:
    """Marks the chunks with at least one valid step."""
    return valid.any(axis=1)


def last_step(flag: Bool[Array, "T B"], valid: Bool[Array, "T C B"]) -> Bool[Array, "T C B"]:
    """Moves a flag of the chunk to its last valid step, the step where an episode ended."""
    later = jnp.concatenate([valid[:, 1:], jnp.zeros_like(valid[:, :1])], axis=1)
    return valid & jnp.logical_not(later) & flag[:, None, :]


def active_dims(
    horizon: int, action_dim: int, chunk: int, action_dims: int | Sequence[int]
) -> Bool[Array, "H A"]:
    """Marks the elements of an emitted action sequence that reach the environment.

    Args:
        horizon: H, actions that the policy emits.
        action_dim: A, dimensions of an emitted action, padding included.
        chunk: how many of the H actions are executed.
        action_dims: how many leading dimensions count, or the indices of those that do.

    Raises:
        ValueError: if the chunk or the dimensions do not fit into H x A.
    """
    if not 1 <= chunk <= horizon:
        raise ValueError(f"chunk={chunk} must be in [1, horizon={horizon}]; shorten the chunk")
    dims = range(action_dims) if isinstance(action_dims, int) else action_dims
    if len(dims) == 0 or min(dims) < 0 or max(dims) >= action_dim:
        raise ValueError(
            f"action_dims={action_dims} must name at least one of the dimensions 0 to "
            f"{action_dim - 1}; drop those outside or raise action_dim"
        )
    mask = np.zeros((horizon, action_dim), bool)
    mask[:chunk, list(dims)] = True
    return jnp.asarray(mask)


def element_mask(valid: Bool[Array, "*n C"], dims: Bool[Array, "H A"]) -> Bool[Array, "*n H A"]:
    """Joins the validity of executed steps with the active elements.

    Args:
        valid: step validity with the steps LAST (move axis 1 of [T, C, B] to the end).
        dims: of `active_dims`.

    Raises:
        ValueError: if more steps are executed than the horizon holds.
    """
    chunk, horizon = valid.shape[-1], dims.shape[0]
    if chunk > horizon:
        raise ValueError(f"{chunk} executed steps exceed the horizon {horizon}; shorten the chunk")
    pad = [(0, 0)] * (valid.ndim - 1) + [(0, horizon - chunk)]
    return jnp.pad(valid, pad)[..., None] & dims


def length_weights(valid: Bool[Array, "T *C B"], done: Bool[Array, "T *C B"]) -> Array:
    """Weights with which every episode counts the same, however many valid entries it has.

    An entry of an episode with n valid entries weighs 1 / n, times the constant that makes the
    mean weight of valid entries 1; other entries weigh 0. An episode that the rollout cuts counts
    as one episode. Leading axes [T] or [T, C] are time, in this order.
    """
    same_shapes(valid=valid, done=done)
    live = valid.reshape(-1, valid.shape[-1])
    ends = done.reshape(live.shape) & live
    upto = jnp.cumsum(live.astype(jnp.int32), axis=0)
    # Counts never fall, so the nearest end before (after) an entry is a running max (min).
    before = jnp.concatenate([jnp.zeros_like(upto[:1]), jnp.where(ends, upto, 0)[:-1]])
    start = jax.lax.cummax(before, axis=0)
    stop = jax.lax.cummin(jnp.where(ends, upto, upto[-1:]), axis=0, reverse=True)
    length = jnp.maximum(stop - start, 1).astype(jnp.float32)
    share = jnp.where(live, 1.0 / length, 0.0)
    entries = upto[-1].sum().astype(jnp.float32)
    episodes = jnp.maximum(share.sum(), 1.0)
    return (share * entries / episodes).reshape(valid.shape)


def group_filter(
    returns: Float[Array, " B"],
    group_size: int,
    low: float | None = None,
    high: float | None = None,
    sound: Bool[Array, " B"] | None = None,
) -> Bool[Array, " B"]:
    """Keeps the members of groups whose mean return is in [low, high]; None is no bound.

    Groups are neighbours: environments 0 to group_size - 1 are the first. The mean is over those
    that are `sound` (None: all).

    Raises:
        ValueError: if the environments do not divide into groups.
    """
    check_groups(returns.shape[0], group_size)
    # Sums, not means: 9 successes of 10 must not exceed 0.9 by the rounding of a division.
    sound = jnp.ones(returns.shape, bool) if sound is None else sound
    total = jnp.where(sound, returns, 0.0).reshape(-1, group_size).sum(axis=1)
    count = sound.reshape(-1, group_size).sum(axis=1)
    keep = jnp.ones(total.shape, bool)
    if low is not None:
        keep &= total >= low * count
    if high is not None:
        keep &= total <= high * count
    return jnp.repeat(keep, group_size, total_repeat_length=returns.shape[0])


def check_groups(envs: int, group_size: int) -> None:
    """Raises ValueError if the environments do not divide into groups of at least two."""
    if group_size < 2:
        raise ValueError(f"group_size={group_size} must be at least 2; one has nothing to compare")
    if envs % group_size:
        raise ValueError(
            f"{envs} environments do not divide into groups of {group_size}; "
            "choose the environments as a multiple of the group"
        )
