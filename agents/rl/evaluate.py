"""Evaluation: whole episodes by pure ODE denoising, on fixed seeds, with controls.

Axes: B environments, C steps of a chunk, H horizon, A action dimensions.
"""

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int, Key, PyTree

from loomax.agents.rl.policy import FlowPolicy, initial_noise
from loomax.envs.types import State
from loomax.envs.vector import Observation, VectorEnv
from loomax.models.flow_vla.sampler import SamplerConfig, sample_chain
from loomax.runtime.mesh import on_mesh

CONTROLS = ("none", "shuffled instructions", "black images")


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class Evaluation:
    """Outcome of one episode per environment; `trace` holds states [T, B, C] if asked for."""

    success: Bool[Array, " B"]
    steps: Int[Array, " B"]
    trace: State | None


def spoil(obs: Observation, control: Int[Array, ""]) -> Observation:
    """The observation that a control shows instead (index into CONTROLS)."""
    spoiled = dict(obs)
    spoiled["instruction"] = jnp.where(
        control == 1, jnp.roll(obs["instruction"], 1), obs["instruction"]
    )
    if "images" in obs:
        spoiled["images"] = jax.tree.map(
            lambda image: jnp.where(control == 2, jnp.zeros_like(image), image), obs["images"]
        )
    return spoiled


@dataclass(frozen=True)
class Evaluator:
    """Plays one episode per key with the deterministic (ODE) sampler."""

    policy: FlowPolicy
    venv: VectorEnv
    chunks: int
    chunk: int
    steps: int

    def __call__(
        self,
        params: PyTree,
        keys: Key[Array, " B"],
        control: Int[Array, ""],
        *,
        key: Key[Array, ""],
    ) -> Evaluation:
        """Pure; jit it once and use it for every control."""
        sampler = SamplerConfig(kind="ode", steps=self.steps)
        size, batch = self.venv.env.action_size, keys.shape[0]

        def body(carry, t):
            state, obs = carry
            context = self.policy.encode(params, spoil(obs, control))
            chain = sample_chain(
                sampler,
                lambda x, time: self.policy.velocity(params, context, x, time),
                None,
                initial_noise(self.policy, batch, key=jax.random.fold_in(key, t)),
                stochastic_index=None,
                key=key,
            )
            actions = jnp.clip(chain.xs[-1][:, : self.chunk, :size], -1.0, 1.0)
            state, obs, outcome = self.venv.chunk(state, actions)
            return (state, obs), (outcome.success, outcome.valid.sum(-1), outcome.trace)

        with on_mesh(self.venv.mesh):
            start = self.venv.reset(keys)
            _, (success, valid, trace) = jax.lax.scan(body, start, jnp.arange(self.chunks))
        return Evaluation(success.any(0), valid.sum(0), trace)
