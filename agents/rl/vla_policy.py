"""The flow VLA as a policy: images, instruction and proprioception in, action chunks out.

Axes: B batch, M a multiple of it, H horizon, A action dimensions, W expert width, L layers,
S prefix tokens, P state, Q privileged.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Float, Key, PyTree

from loomax.agents.rl.policy_config import PolicyConfig
from loomax.envs.types import Env
from loomax.envs.vector import Observation
from loomax.models.flow_vla.heads import Heads, HeadsConfig, noise_std, value
from loomax.models.flow_vla.model import FlowVLA, is_action_expert
from loomax.models.flow_vla.prefix import Prefix, asked_logits, encode_prefix, ground
from loomax.models.flow_vla.prompt import Prompts, make_prompts
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.models.flow_vla.suffix import velocity
from loomax.models.initialise import Rngs, initialise
from loomax.models.tokenizer import default_tokenizer


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class Context:
    """An encoded observation, batch first so that samples can be stored and shuffled."""

    prefix: Prefix
    state: Float[Array, "B P"]


def batch_first(prefix: Prefix) -> Prefix:
    """Keys and values as [B, L, ...]."""
    return prefix.replace(
        keys=jnp.moveaxis(prefix.keys, 1, 0), values=jnp.moveaxis(prefix.values, 1, 0)
    )


def layers_first(prefix: Prefix) -> Prefix:
    """Keys and values as [L, B, ...], as the model wants them."""
    return prefix.replace(
        keys=jnp.moveaxis(prefix.keys, 0, 1), values=jnp.moveaxis(prefix.values, 0, 1)
    )


class PolicyNet(nnx.Module):
    """The VLA with the heads that reinforcement learning needs."""

    def __init__(self, config: PolicyConfig, heads: HeadsConfig, rngs: Rngs):
        self.vla = FlowVLA(config.model, rngs)
        self.heads = Heads(heads, config.model, rngs)


def is_trained(path: tuple, value: object = None) -> bool:
    """Whether RL trains a parameter: the heads and the action expert, not the prefix."""
    return path[0] != "vla" or is_action_expert(path[1:])


@dataclass(frozen=True)
class VLAPolicy:
    """Adapter of `FlowVLA` to the flow-policy interface; parameters are (trained, frozen).

    Args:
        prompts: what the model reads for each of the environment's instructions.
    """

    config: PolicyConfig
    sampler: SamplerConfig
    graphdef: nnx.GraphDef
    prompts: Prompts

    @property
    def horizon(self) -> int:
        return self.config.model.horizon

    @property
    def action_dim(self) -> int:
        return self.config.model.action_dim

    @property
    def critic(self) -> str:
        return self.config.critic

    def _net(self, params: PyTree) -> PolicyNet:
        return nnx.merge(self.graphdef, *params)

    def inputs(self, obs: Observation) -> dict[str, Any]:
        """The model's form of an observation: tokenised prompt, padded state."""
        state, size = obs["proprio"], self.config.model.state_dim
        tokens, mask = self.prompts.tokens(obs["instruction"], state)
        padded = jnp.pad(state, ((0, 0), (0, size - state.shape[-1]))) if size else state[:, :0]
        return {"images": obs["images"], "tokens": tokens, "token_mask": mask, "state": padded}

    def encode(self, params: PyTree, obs: Observation) -> Context:
        """Runs the prefix once per observation."""
        inputs = self.inputs(obs)
        prefix = encode_prefix(self._net(params).vla, inputs)
        return Context(batch_first(prefix), inputs["state"])

    def asked_logits(self, params: PyTree, obs: Observation) -> dict[str, Float[Array, "B P C"]]:
        """Attention of the key points that the instruction asks for, by camera."""
        return asked_logits(self._net(params).vla, self.inputs(obs))

    def ground(self, params: PyTree, context: Context) -> Float[Array, "B G"]:
        """The grounding head's output."""
        return ground(self._net(params).vla, context.prefix)

    def velocity(
        self, params: PyTree, context: Context, x: Float[Array, "M H A"], t: Float[Array, " M"]
    ) -> tuple[Float[Array, "M H A"], Float[Array, "M H W"]]:
        """One pass of the action expert; x may hold several copies of the batch, copy-major."""
        return velocity(self._net(params).vla, layers_first(context.prefix), context.state, x, t)

    def noise_std(self, params: PyTree, hidden: Float[Array, "B H W"]) -> Float[Array, "B H A"]:
        """Learned standard deviation of Flow-Noise."""
        return noise_std(self._net(params).heads, self.sampler, hidden)

    def value(
        self,
        params: PyTree,
        context: Context | None,
        privileged: Float[Array, "B Q"],
        hidden: Float[Array, "B H W"] | None,
    ) -> Float[Array, " B"]:
        """State value from where `config.critic` says."""
        prefix = None if context is None else context.prefix
        return value(self._net(params).heads, hidden=hidden, prefix=prefix, privileged=privileged)


def make_vla_policy(
    config: PolicyConfig, sampler: SamplerConfig, env: Env, *, key: Key[Array, ""] | None = None
) -> tuple[VLAPolicy, Any]:
    """A policy for an environment and its parameters (shapes only without a key).

    Raises:
        ValueError: if the model's action or state size is too small for the environment, or its
            text too short for the prompts.
    """
    config.check(env.action_size, env.proprio_size)
    prompts = make_prompts(
        default_tokenizer(),
        env.instructions,
        length=config.model.text_tokens,
        state_size=env.proprio_size if config.model.discrete_state else 0,
        vocab=config.model.vocab,
    )

    heads = HeadsConfig(
        critic=config.critic,
        critic_hidden=config.critic_hidden,
        detach=config.detach_critic,
        privileged=env.privileged_size,
        noise=sampler.kind == "noise",
        noise_hidden=config.noise_hidden,
    )

    def build(rngs):
        return PolicyNet(config, heads, rngs)

    if key is None:
        graphdef, params = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    else:
        graphdef, params = initialise(build, key=key)
    trained, frozen = nnx.split_state(params, is_trained, ...)
    return VLAPolicy(config, sampler, graphdef, prompts), (trained, frozen)
