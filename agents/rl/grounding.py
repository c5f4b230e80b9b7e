"""Grounding: teaching the prefix where the named object is, before any action is learned.

A small policy has no internet-trained vision-language model behind it. This stage stands in for
one: on simulated frames with random valid instructions the prefix learns to predict the position
of what the instruction names. Its labels come from the simulator; the policy itself never sees
them when it acts. Afterwards the prefix is frozen.

Axes: B batch, G predicted numbers.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from loomax.agents.rl.policy import FlowPolicy


def grounding_loss(
    policy: FlowPolicy, params: PyTree, obs: PyTree, target: Float[Array, "B G"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Huber loss of the predicted position, and its median error in the target's unit."""
    context = policy.encode(params, obs)
    error = policy.ground(params, context) - target
    size = jnp.abs(error)
    # Linear beyond 5 units: a hidden object must not drown out the visible ones.
    loss = jnp.where(size < 5.0, 0.5 * error**2, 5.0 * (size - 2.5)).mean()
    distance = jnp.sqrt(jnp.sum(error[:, :2] ** 2, -1))
    return loss, {"loss": loss, "median_error": jnp.median(distance)}
