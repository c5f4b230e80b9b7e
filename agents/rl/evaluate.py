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
    """Outcome of one episode per environment.

    Attributes:
        broken: the environment failed; such an episode counts as not solved.
        trace: states [T, B, C] if asked for.
    """

    success: Bool[Array, " B"]
    steps: Int[Array, " B"]
    broken: Bool[Array, " B"]
    trace: State | None


def other_instructions(instruction: Int[Array, " B"], count: int) -> Int[Array, " B"]:
    """For every episode one of the `count - 1` other instructions, each of them as often."""
    if count < 2:
        return instruction
    shift = 1 + jnp.arange(instruction.shape[0], dtype=instruction.dtype) % (count - 1)
    return (instruction + shift) % count


def spoil(obs: Observation, control: Int[Array, ""], instructions: int) -> Observation:
    """The observation that a control shows instead (index into CONTROLS).

    Args:
        instructions: how many the environment has. With one alone there is no other to show.
    """
    spoiled = dict(obs)
    said = obs["instruction"]
    spoiled["instruction"] = jnp.where(control == 1, other_instructions(said, instructions), said)
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
        """Pure; jit it once and use it for every control.

        Args:
            keys: of the fresh episodes, one each.
            key: of the noise that denoising starts from; not one that `keys` were split from.
        """
        sampler = SamplerConfig(kind="ode", steps=self.steps)
        env, batch = self.venv.env, keys.shape[0]

        def body(carry, t):
            state, obs = carry
            shown = spoil(obs, control, len(env.instructions))
            context = self.policy.encode(params, shown)
            noise_key, chain_key = jax.random.split(jax.random.fold_in(key, t))
            chain = sample_chain(
                sampler,
                lambda x, time: self.policy.velocity(params, context, x, time),
                None,
                initial_noise(self.policy, batch, key=noise_key),
                stochastic_index=None,
                key=chain_key,
            )
            actions = jnp.clip(chain.xs[-1][:, : self.chunk, : env.action_size], -1.0, 1.0)
            state, obs, outcome = self.venv.chunk(state, actions)
            ended = outcome.terminated | outcome.truncated
            seen = (ended & outcome.success, outcome.valid.sum(-1), outcome.broken, outcome.trace)
            return (state, obs), seen

        with on_mesh(self.venv.mesh):
            start = self.venv.reset(keys)
            stillborn = start[0].done.astype(bool)
            _, (success, valid, broken, trace) = jax.lax.scan(body, start, jnp.arange(self.chunks))
        return Evaluation(success.any(0), valid.sum(0), broken.any(0) | stillborn, trace)
