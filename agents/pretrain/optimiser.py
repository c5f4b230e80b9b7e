"""AdamW under the learning rates of the stages."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from loomax.agents.pretrain.config import AdamWConfig, StageConfig

# Besides norms: rates of decays and the shares of YOCO++, which have no reason to be small.
NOT_DECAYED = ("log_rate", "decay_bias", "kv_share")


def learning_rate(warmup: int, stages: tuple[StageConfig, ...]) -> optax.Schedule:
    """Of each step, counted from 0: a linear rise, then each stage's linear fall.

    The rise reaches the first stage's `lr` at its last step.
    """
    first = stages[0]
    rates = [optax.linear_schedule(first.lr, first.end_lr, first.steps - warmup)]
    rates += [optax.linear_schedule(stage.lr, stage.end_lr, stage.steps) for stage in stages[1:]]
    if warmup:
        rates.insert(0, lambda step: first.lr * (step + 1) / warmup)
    ends, total = ([warmup] if warmup else []), 0
    for stage in stages[:-1]:
        total += stage.steps
        ends.append(total)
    return optax.join_schedules(rates, ends)


def decayed(params: PyTree) -> PyTree:
    """Which parameters the weight decay pulls to zero."""

    def one(path, _) -> bool:
        name = path[-1].key
        return not (name.endswith("norm") or name in NOT_DECAYED)

    return jax.tree_util.tree_map_with_path(one, params)


def make_optimiser(
    config: AdamWConfig, stages: tuple[StageConfig, ...]
) -> optax.GradientTransformation:
    """AdamW on gradients that are clipped by their global norm; moments are float32."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config.warmup, stages),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=decayed,
            mu_dtype=jnp.float32,
        ),
    )
