"""The flow-matching loss.

Shape letters: B batch, H horizon, A action size.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from loomax.models.flow_vla.model import FlowVLA
from loomax.models.flow_vla.prefix import encode_prefix
from loomax.models.flow_vla.suffix import velocity


def sample_time(batch: int, *, key: Key[Array, ""]) -> Float[Array, " B"]:
    """0.001 + 0.999 Beta(1.5, 1): more weight on noisy times (pi0, section IV).

    Beta(a, 1) is the a-th root of a uniform number, by its distribution function x^a.
    """
    return 0.001 + 0.999 * jax.random.uniform(key, (batch,)) ** (1 / 1.5)


def noisy_actions(actions: Array, noise: Array, time: Array) -> tuple[Array, Array]:
    """x_t = t noise + (1 - t) actions and its target velocity noise - actions."""
    spread = time[:, None, None]
    return spread * noise + (1 - spread) * actions, noise - actions


def flow_loss(
    model: FlowVLA,
    obs: dict[str, Any],
    actions: Float[Array, "B H A"],
    *,
    key: Key[Array, ""],
    time: Float[Array, " B"] | None = None,
    noise: Float[Array, "B H A"] | None = None,
    mask: Array | None = None,
) -> Float[Array, " B"]:
    """Mean squared error of the velocity per sample, over the masked-in elements.

    Args:
        mask: 1 for real elements; broadcasts to the actions. None counts all.
    """
    time_key, noise_key = jax.random.split(key)
    time = sample_time(actions.shape[0], key=time_key) if time is None else time
    noise = jax.random.normal(noise_key, actions.shape) if noise is None else noise
    x, target = noisy_actions(actions, noise, time)
    predicted, _ = velocity(model, encode_prefix(model, obs), obs.get("state"), x, time)
    return masked_error(predicted, target, mask)


def masked_error(
    predicted: Float[Array, "B H A"], target: Float[Array, "B H A"], mask: Array | None
) -> Float[Array, " B"]:
    """Mean squared error per sample; a sample without any real element counts 0."""
    error = jnp.square(predicted - target)
    if mask is None:
        return error.mean((1, 2))
    real = jnp.broadcast_to(mask, error.shape).astype(error.dtype)
    # where, not a product: a padded element may hold anything, even infinity.
    total = jnp.where(real > 0, error * real, 0).sum((1, 2))
    return total / jnp.maximum(real.sum((1, 2)), 1)
