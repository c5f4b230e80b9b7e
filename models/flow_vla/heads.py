"""Heads for reinforcement learning, apart from the policy so that they can be thrown away.

A noise network for Flow-Noise and a critic on the suffix, the prefix or privileged state
(piRL, sections 4-5; the bounds are standard deviations).

Shape letters: B batch, H horizon, A action size, W expert width, D prefix width, Q privileged size.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from loomax.models.flow_vla.config import FlowVLAConfig
from loomax.models.flow_vla.prefix import Prefix, pool_prefix
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.models.initialise import Rngs
from loomax.models.layers import MLP


@dataclass(frozen=True)
class HeadsConfig:
    """Which heads exist.

    Args:
        critic: what the value reads: the mean of the suffix hidden states, the mean of the valid
            prefix outputs, an extra vector of true state, or nothing (GRPO).
        critic_hidden: hidden sizes; 512-256-128 suits full-size models.
        detach: no gradient flows from the critic into the policy.
        privileged: size of the extra vector.
        noise: whether there is a noise network, and its hidden sizes.
    """

    critic: Literal["suffix", "prefix", "privileged", "none"] = "suffix"
    critic_hidden: tuple[int, ...] = (128, 128)
    detach: bool = True
    privileged: int = 0
    noise: bool = False
    noise_hidden: tuple[int, ...] = (128, 64)

    def __post_init__(self):
        if self.critic == "privileged" and self.privileged < 1:
            raise ValueError("critic='privileged' needs privileged > 0, the vector's size")


class Heads(nnx.Module):
    """Parameters of the critic and of the noise network."""

    def __init__(self, config: HeadsConfig, policy: FlowVLAConfig, rngs: Rngs):
        self.config = config
        sizes = {
            "suffix": policy.expert_width,
            "prefix": policy.width,
            "privileged": config.privileged,
        }
        if config.critic != "none":
            self.critic = MLP(
                (sizes[config.critic], *config.critic_hidden, 1),
                rngs=rngs,
                last_std=0.02,
            )
        if config.noise:
            self.noise = MLP(
                (policy.expert_width, *config.noise_hidden, policy.action_dim),
                rngs=rngs,
                activation=jnp.tanh,
            )


def value(
    heads: Heads,
    *,
    hidden: Float[Array, "B H W"] | None = None,
    prefix: Prefix | None = None,
    privileged: Float[Array, "B Q"] | None = None,
) -> Float[Array, " B"]:
    """The critic's value; only the input that the config names is read.

    Raises:
        ValueError: if that input is missing, or there is no critic.
    """
    given = {"suffix": hidden, "prefix": prefix, "privileged": privileged}
    kind = heads.config.critic
    if given.get(kind) is None:
        raise ValueError(f"critic={kind!r} cannot give a value from what was passed")
    if kind == "suffix":
        features = hidden.mean(axis=1)
    else:
        features = pool_prefix(prefix) if kind == "prefix" else privileged
    features = features.astype(jnp.float32)
    features = jax.lax.stop_gradient(features) if heads.config.detach else features
    return heads.critic(features)[..., 0]


def noise_std(
    heads: Heads, sampler: SamplerConfig, hidden: Float[Array, "B H W"]
) -> Float[Array, "B H A"]:
    """The learned std of each action element, between std_min and std_max.

    The log-variance is interpolated between its bounds by tanh, as in RLinf.
    """
    return bounded_std(heads.noise(hidden.astype(jnp.float32)), sampler)


def bounded_std(raw: Array, sampler: SamplerConfig) -> Array:
    """exp(log-variance / 2), the log-variance being lo + (hi - lo) (tanh(raw) + 1) / 2."""
    low, high = 2 * jnp.log(sampler.std_min), 2 * jnp.log(sampler.std_max)
    return jnp.exp(0.5 * (low + (high - low) * (jnp.tanh(raw) + 1) / 2))
