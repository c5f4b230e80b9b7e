"""From a rollout to what the losses read: advantages, targets and weights, sample by sample.

Axes: T policy calls, B environments, C executed steps.
"""

from typing import no_type_check

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from loomax.agents.rl.config import RLConfig
from loomax.agents.rl.loss_config import GRPOLossConfig
from loomax.agents.rl.losses import loss_weights
from loomax.agents.rl.masks import chunk_valid, last_step
from loomax.agents.rl.returns import credit, group_credit
from loomax.agents.rl.rollout import Transition


@struct.dataclass
@no_type_check  # of a rollout or of flat samples
class Estimates:
    """Per policy call [T, B]; weights of the policy carry [T, B, C] below chunk level."""

    advantage: Float[Array, "T B"]
    target: Float[Array, "T B"]
    policy_weight: Float[Array, "T B *C"]
    value_weight: Float[Array, "T B"]
    valid: Bool[Array, "T B C"]


def steps_second(x: Array) -> Array:
    """[T, B, C] to [T, C, B], the order of the returns."""
    return jnp.swapaxes(x, 1, 2)


def estimate(config: RLConfig, steps: Transition) -> Estimates:
    """Advantages by GAE, or by groups where the loss is GRPO's.

    Advantages of groups are used as they are: scaling them again over the rollout would move
    those of groups with equal returns away from 0.
    """
    reward, valid = steps_second(steps.reward), steps_second(steps.valid)
    terminated = last_step(steps.terminated, valid)
    truncated = last_step(steps.truncated, valid)
    keep = None
    if isinstance(config.loss, GRPOLossConfig):
        sound = jnp.logical_not(steps.broken.any(axis=0))
        per_env, keep = group_credit(config.group, reward, valid, sound)
        advantage = jnp.broadcast_to(per_env, steps.value.shape)
        advantage = jnp.where(chunk_valid(valid), advantage, 0.0)
        target = jnp.zeros_like(advantage)
    else:
        advantage, target = credit(
            config.credit,
            reward,
            steps.value,
            steps.next_value,
            terminated,
            truncated,
            valid,
            steps.broken,
        )
    # The episode of a failed environment ends with the call before.
    fails = jnp.concatenate([steps.broken[1:], jnp.zeros_like(steps.broken[:1])])
    done = terminated | truncated | last_step(fails, valid)
    weight = loss_weights(config.loss, config.loss.level, valid, done, keep)
    return Estimates(
        advantage=advantage,
        target=target,
        policy_weight=steps_second(weight) if weight.ndim == 3 else weight,
        value_weight=loss_weights(config.loss, "chunk", valid, done, keep),
        valid=steps.valid,
    )
