"""The loss of a minibatch of policy calls.

Axes: N samples, K denoising steps, H horizon, A action dimensions, C executed steps.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from loomax.agents.rl.config import RLConfig
from loomax.agents.rl.estimates import Estimates
from loomax.agents.rl.loss_config import GRPOLossConfig
from loomax.agents.rl.losses import PolicyBatch, ValueBatch, grpo_loss, ppo_loss
from loomax.agents.rl.masks import element_mask
from loomax.agents.rl.policy import FlowPolicy
from loomax.agents.rl.rollout import Transition
from loomax.models.flow_vla.likelihood import ChainLikelihood, chain_log_prob

Metrics = dict[str, Float[Array, ""]]


def likelihood(
    config: RLConfig, policy: FlowPolicy, params: PyTree, context: PyTree, batch: Transition
) -> ChainLikelihood:
    """Log-density of the stored chains under `params`."""
    return chain_log_prob(
        config.sampler,
        lambda x, t: policy.velocity(params, context, x, t),
        lambda hidden: policy.noise_std(params, hidden),
        batch.chain,
        batch.index,
    )


def scrub(samples: PyTree, live: Bool[Array, " N"]) -> PyTree:
    """Zeros for the numbers of samples that do not count.

    Their gradient is masked to 0 at the loss, but 0 times what is not finite is not 0.
    """

    def clean(x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return jnp.where(live.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)

    return jax.tree.map(clean, samples)


def objective(
    config: RLConfig,
    policy: FlowPolicy,
    params: PyTree,
    reference: PyTree,
    batch: Transition,
    targets: Estimates,
    dims: Bool[Array, "H A"],
) -> tuple[Float[Array, ""], Metrics]:
    """PPO's or GRPO's loss; differentiate with respect to the trained part of `params`.

    Args:
        params, reference: (trained, frozen) of the current and of the reference policy; the
            reference is read only if loss.kl_coef > 0.
        dims: which elements of an emitted chunk reach the environment.
    """
    if not config.rollout.auto_reset:
        batch = scrub(batch, targets.valid.any(-1))
    context: Any = batch.source
    if not config.rollout.store_context:
        context = jax.lax.stop_gradient(policy.encode(params, batch.source))
    now = likelihood(config, policy, params, context, batch)
    ref = None
    if config.loss.kl_coef > 0:
        ref = likelihood(config, policy, reference, context, batch).log_prob
    actor = PolicyBatch(
        log_prob=now.log_prob,
        old_log_prob=batch.log_prob,
        advantage=targets.advantage,
        mask=element_mask(targets.valid, dims),
        weight=targets.policy_weight,
        entropy=now.entropy if config.loss.entropy_coef > 0 else None,
        ref_log_prob=ref,
    )
    if isinstance(config.loss, GRPOLossConfig):
        return grpo_loss(config.loss, actor)
    value = policy.value(params, context, batch.privileged, now.hidden)
    critic = ValueBatch(value, batch.value, targets.target, targets.value_weight)
    return ppo_loss(config.loss, actor, critic)
