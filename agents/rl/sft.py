"""Supervised fine-tuning: flow matching of action chunks on stored observation contexts.

Axes: B batch, H horizon, C executed steps, A action dimensions of the model, E of the environment.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from loomax.agents.rl.policy import FlowPolicy
from loomax.models.flow_vla.loss import noisy_actions, sample_time


def pad_actions(
    actions: Float[Array, "B C E"], valid: Bool[Array, "B C"], horizon: int, action_dim: int
) -> tuple[Float[Array, "B H A"], Float[Array, "B H A"]]:
    """Environment actions in the model's shape, with a mask of what is real."""
    _, length, size = actions.shape
    room = ((0, 0), (0, horizon - length), (0, action_dim - size))
    mask = jnp.broadcast_to(valid[..., None], actions.shape).astype(jnp.float32)
    return jnp.pad(actions, room), jnp.pad(mask, room)


def flow_matching_loss(
    policy: FlowPolicy,
    params: PyTree,
    context: PyTree,
    actions: Float[Array, "B H A"],
    mask: Float[Array, "B H A"],
    *,
    key: Key[Array, ""],
) -> Float[Array, ""]:
    """Mean squared error of the velocity at t ~ 0.001 + 0.999 Beta(1.5, 1) (pi0, section IV)."""
    time_key, noise_key = jax.random.split(key)
    t = sample_time(actions.shape[0], key=time_key)
    noise = jax.random.normal(noise_key, actions.shape)
    x, target = noisy_actions(actions, noise, t)
    velocity, _ = policy.velocity(params, context, x, t)
    # where, not a product: what is not real may hold anything.
    error = jnp.where(mask > 0, jnp.square(velocity - target), 0.0)
    return error.sum() / jnp.maximum(mask.sum(), 1.0)
