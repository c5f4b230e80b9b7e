"""Grounding: teaching the prefix where the named object is, before any action is learned.

A small policy has no internet-trained vision-language model behind it. This stage stands in for
one: on simulated frames with random valid instructions the prefix learns to point at what the
instruction names (in every image) and to say where it is relative to the gripper. The labels come
from the simulator; the policy itself never sees them when it acts. Afterwards the prefix is frozen.

Axes: B batch, T things that an instruction names, P key points, C image cells, G numbers predicted.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from loomax.agents.rl.policy import FlowPolicy
from loomax.models.vision.keypoint import spread_over_cells

POINTING_WEIGHT = 0.3
# Errors beyond this many units count linearly, so that a hidden object cannot drown the others.
LINEAR = 0.5


def position_loss(predicted: Float[Array, "B G"], target: Float[Array, "B G"]) -> Array:
    """Huber loss of predicted positions."""
    size = jnp.abs(predicted - target)
    inner = jnp.minimum(size, LINEAR)
    return (inner * (size - 0.5 * inner)).sum(-1).mean()


def pointing_loss(logits: dict[str, Array], pointing: dict[str, PyTree]) -> Array:
    """Cross-entropy of the asked key points' attention against where the named things are.

    The first asked key points of a camera are for the named things in order, the others are free.
    """
    total = jnp.zeros(())
    for name, scores in logits.items():
        label = pointing[name]
        things = min(scores.shape[1], label.xy.shape[1])
        cells = math.isqrt(scores.shape[-1])
        wanted = spread_over_cells(label.xy[:, :things], cells)
        given = jax.nn.log_softmax(scores[:, :things].astype(jnp.float32), axis=-1)
        each = -(wanted * given).sum(-1) * label.seen[:, :things]
        total = total + each.sum() / jnp.maximum(label.seen[:, :things].sum(), 1)
    return total


def grounding_loss(
    policy: FlowPolicy, params: PyTree, obs: PyTree, target: Float[Array, "B G"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Position and pointing losses, and the median horizontal error in the target's unit."""
    predicted = policy.ground(params, policy.encode(params, obs))
    place = position_loss(predicted, target)
    point = pointing_loss(policy.asked_logits(params, obs), obs["pointing"])
    distance = jnp.linalg.norm((predicted - target)[:, :2], axis=-1)
    metrics = {
        "loss": place + POINTING_WEIGHT * point,
        "position": place,
        "pointing": point,
        "median_error": jnp.median(distance),
        "p90_error": jnp.percentile(distance, 90),
    }
    return metrics["loss"], metrics
