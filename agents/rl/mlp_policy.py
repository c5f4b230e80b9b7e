"""A small flow policy over proprioception alone: the smallest thing that can learn here.

It has the interface of the flow VLA, so every algorithm can be tried in seconds on a toy world.

Axes: B batch, H horizon, A action dimensions, W width, P proprioception size, Q privileged size.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, PyTree

from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.envs.types import Env
from loomax.envs.vector import Observation
from loomax.models.flow_vla.heads import bounded_std
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.models.initialise import Rngs, initialise


class MLPFlow(nnx.Module):
    """Velocity, noise and value networks."""

    def __init__(self, config: MLPPolicyConfig, state_size: int, privileged: int, rngs: Rngs):
        flat = config.horizon * config.action_dim
        self.enter = nnx.Linear(state_size + flat + 1, config.width, rngs=rngs)
        self.middle = nnx.Linear(config.width, config.width, rngs=rngs)
        self.leave = nnx.Linear(config.width, flat, rngs=rngs)
        self.noise = nnx.Linear(config.width, flat, rngs=rngs)
        self.critic_enter = nnx.Linear(privileged, config.width, rngs=rngs)
        self.critic_leave = nnx.Linear(config.width, 1, rngs=rngs)


@dataclass(frozen=True)
class MLPFlowPolicy:
    """Adapter of `MLPFlow` to the flow-policy interface; parameters are (trained, {})."""

    config: MLPPolicyConfig
    sampler: SamplerConfig
    graphdef: nnx.GraphDef

    critic = "privileged"

    @property
    def horizon(self) -> int:
        return self.config.horizon

    @property
    def action_dim(self) -> int:
        return self.config.action_dim

    def _model(self, params: PyTree) -> MLPFlow:
        return nnx.merge(self.graphdef, params[0])

    def encode(self, params: PyTree, obs: Observation) -> Float[Array, "B P"]:
        return obs["proprio"]

    def velocity(self, params: PyTree, context: Array, x: Array, t: Array) -> tuple[Array, Array]:
        model = self._model(params)
        flat = x.reshape(x.shape[0], -1)
        context = jnp.tile(context, (x.shape[0] // context.shape[0], 1))
        inputs = jnp.concatenate([context, flat, t[:, None]], -1)
        hidden = jax.nn.gelu(model.middle(jax.nn.gelu(model.enter(inputs))))
        # The same hidden row for every action of the chunk.
        rows = jnp.broadcast_to(hidden[:, None], (*x.shape[:2], hidden.shape[-1]))
        return model.leave(hidden).reshape(x.shape), rows

    def noise_std(self, params: PyTree, hidden: Array) -> Float[Array, "B H A"]:
        raw = self._model(params).noise(hidden[:, 0])
        return bounded_std(raw, self.sampler).reshape(-1, self.horizon, self.action_dim)

    def value(
        self, params: PyTree, context: Array | None, privileged: Array, hidden: Array | None
    ) -> Float[Array, " B"]:
        model = self._model(params)
        return model.critic_leave(jnp.tanh(model.critic_enter(privileged)))[..., 0]


def make_mlp_policy(
    config: MLPPolicyConfig, sampler: SamplerConfig, env: Env, *, key: Key[Array, ""] | None = None
) -> tuple[MLPFlowPolicy, PyTree]:
    """A policy for an environment and its parameters (shapes only without a key).

    Raises:
        ValueError: if the policy's actions are smaller than the environment's.
    """
    config.check(env.action_size)

    def build(rngs):
        return MLPFlow(config, env.proprio_size, env.privileged_size, rngs)

    if key is None:
        graphdef, trained = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    else:
        graphdef, trained = initialise(build, key=key)
    return MLPFlowPolicy(config, sampler, graphdef), (trained, {})
