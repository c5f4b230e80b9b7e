"""Optimisers of the actor and the critic, and the step size that follows the KL divergence."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from loomax.agents.rl.config import OptimiserConfig

ACTOR, CRITIC = "actor", "critic"
KL_SHRINK, KL_GROW = 2.0, 0.5
LR_FACTOR, LR_LOW, LR_HIGH = 1.5, 0.1, 10.0


def labels(params: PyTree) -> PyTree:
    """ "critic" for parameters whose path holds that word, "actor" for all others."""

    def label(path, _):
        return CRITIC if "critic" in jax.tree_util.keystr(path) else ACTOR

    return jax.tree_util.tree_map_with_path(label, params)


def make_optimiser(config: OptimiserConfig) -> optax.GradientTransformation:
    """Adam with one learning rate for the actor and one for the critic, each clipped by norm."""

    def adam(lr):
        return optax.chain(
            optax.clip_by_global_norm(config.clip_norm), optax.adam(lr, b1=0.9, b2=config.b2)
        )

    return optax.partition({ACTOR: adam(config.lr), CRITIC: adam(config.critic_lr)}, labels)


def scale_actor(updates: PyTree, scale: Float[Array, ""]) -> PyTree:
    """Multiplies the actor's updates and leaves the critic's alone."""
    return jax.tree.map(
        lambda update, label: update * scale if label == ACTOR else update,
        updates,
        labels(updates),
    )


def adapt(
    config: OptimiserConfig, scale: Float[Array, ""], kl: Float[Array, ""]
) -> Float[Array, ""]:
    """The next learning-rate factor: smaller after a large KL divergence, larger after a small."""
    if config.kl_target <= 0:
        return scale
    shrink = kl > KL_SHRINK * config.kl_target
    grow = kl < KL_GROW * config.kl_target
    factor = jnp.where(shrink, 1 / LR_FACTOR, jnp.where(grow, LR_FACTOR, 1.0))
    return jnp.clip(scale * factor, LR_LOW, LR_HIGH)
