"""Acting: policy calls and executed chunks, scanned on the device.

Axes: T policy calls, B environments, C executed steps, H horizon, A action dimensions,
K denoising steps.
"""

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from loomax.agents.rl.policy import FlowPolicy, initial_noise
from loomax.envs.types import State
from loomax.envs.vector import ChunkOutcome, Observation, VectorEnv
from loomax.models.flow_vla.sampler import SamplerConfig, sample_chain


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class Acted:
    """One policy call: the stored chain, what it was conditioned on, its likelihood and value."""

    chain: Float[Array, "B K+1 H A"]
    index: Int[Array, " B"]
    log_prob: Float[Array, "B H A"]
    value: Float[Array, " B"]
    context: PyTree


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class Transition:
    """A policy call and the chunk that it led to; leading axes [T, B] after a rollout.

    `source` is what the update conditions on: the encoded context, or the raw observation when
    the prefix is to be encoded again. `broken` marks calls whose environment failed (see
    `VectorEnv`); none of their steps is valid.
    """

    source: PyTree
    privileged: Float[Array, "B Q"]
    chain: Float[Array, "B K+1 H A"]
    index: Int[Array, " B"]
    log_prob: Float[Array, "B H A"]
    value: Float[Array, " B"]
    next_value: Float[Array, " B"]
    reward: Float[Array, "B C"]
    valid: Bool[Array, "B C"]
    terminated: Bool[Array, " B"]
    truncated: Bool[Array, " B"]
    success: Bool[Array, " B"]
    broken: Bool[Array, " B"]


@dataclass(frozen=True)
class Actor:
    """Samples chains and plays them.

    Args:
        chunk: executed steps per policy call (at most the horizon).
        store_context: keep encoded contexts for the update instead of raw observations.
    """

    policy: FlowPolicy
    venv: VectorEnv
    sampler: SamplerConfig
    chunk: int
    store_context: bool = True

    def act(self, params: PyTree, obs: Observation, *, key: Key[Array, ""]) -> Acted:
        """Encodes the observation once and denoises, keeping the whole chain."""
        start_key, index_key, chain_key = jax.random.split(key, 3)
        policy, sampler = self.policy, self.sampler
        context = policy.encode(params, obs)
        batch = obs["instruction"].shape[0]
        chain = sample_chain(
            sampler,
            lambda x, t: policy.velocity(params, context, x, t),
            lambda hidden: policy.noise_std(params, hidden),
            initial_noise(policy, batch, key=start_key),
            stochastic_index=sampler.draw_index(batch, key=index_key),
            key=chain_key,
        )
        value = policy.value(params, context, obs["privileged"], chain.hidden)
        return Acted(jnp.moveaxis(chain.xs, 0, 1), chain.index, chain.log_prob, value, context)

    def rollout(
        self,
        params: PyTree,
        state: State,
        obs: Observation,
        *,
        calls: int,
        auto_reset: bool,
        key: Key[Array, ""],
    ) -> tuple[State, Observation, Transition]:
        """`calls` policy calls from `state`.

        Returns the state and observation that follow and transitions [T, B]. `next_value` is the
        value of what follows a chunk: of the final observation where the episode ended there,
        never of the fresh episode.
        """
        batch = obs["instruction"].shape[0]

        def body(carry, t):
            state, obs = carry
            act_key, reset_key, final_key = jax.random.split(jax.random.fold_in(key, t), 3)
            acted = self.act(params, obs, key=act_key)
            actions = acted.chain[:, -1, : self.chunk, : self.venv.env.action_size]
            keys = jax.random.split(reset_key, batch) if auto_reset else None
            # An episode that is over although it has just been reset could not begin.
            stillborn = state.done.astype(bool) & (auto_reset | (t == 0))
            state, following, outcome = self.venv.chunk(state, jnp.clip(actions, -1, 1), keys)
            final_value = self._final_value(params, outcome, acted.value, key=final_key)
            broken = outcome.broken | stillborn
            step = self._transition(obs, acted, outcome, final_value, broken)
            return (state, following), step

        (state, obs), steps = jax.lax.scan(body, (state, obs), jnp.arange(calls))
        last = self._value(params, obs, key=jax.random.fold_in(key, calls))
        following = jnp.concatenate([steps.value[1:], last[None]])
        ended = steps.terminated | steps.truncated
        return state, obs, steps.replace(next_value=jnp.where(ended, steps.next_value, following))

    def _value(self, params: PyTree, obs: Observation, *, key: Key[Array, ""]) -> Array:
        if self.policy.critic == "privileged":
            return self.policy.value(params, None, obs["privileged"], None)
        return self.act(params, obs, key=key).value

    def _final_value(self, params, outcome: ChunkOutcome, like, *, key):
        return jax.lax.cond(
            outcome.truncated.any() | outcome.terminated.any(),
            lambda obs: self._value(params, obs, key=key),
            lambda _: jnp.zeros_like(like),
            outcome.final_obs,
        )

    def _transition(
        self, obs, acted: Acted, outcome: ChunkOutcome, final_value, broken
    ) -> Transition:
        return Transition(
            source=acted.context if self.store_context else obs,
            privileged=obs["privileged"],
            chain=acted.chain,
            index=acted.index,
            log_prob=acted.log_prob,
            value=acted.value,
            next_value=final_value,
            reward=outcome.reward,
            valid=outcome.valid & jnp.logical_not(broken)[:, None],
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            success=outcome.success,
            broken=broken,
        )
