"""Scripted demonstrations: observations at chunk boundaries and the actions that followed.

Axes: T policy calls, B environments, N samples, C actions of a chunk, A action dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from loomax.envs.types import State
from loomax.envs.vector import Controller, Observation, VectorEnv


@struct.dataclass
@no_type_check  # the same fields, batched, hold more axes
class Demonstrations:
    """Samples of a scripted expert; leading axes are [T, B] when collected, [N] when flattened.

    `asked` holds the observation of the same scene under another instruction that it allows, and
    in "pointing" where the thing then named appears in the images. The arm need not be after it,
    so grounding learnt from `asked` cannot be read off the arm's motion. It is None where the
    environment cannot be asked.
    """

    obs: Observation
    asked: Observation | None
    actions: Float[Array, "*n C A"]
    valid: Bool[Array, "*n C"]
    success: Bool[Array, "*n"]


def scripted(expert: Callable[[State], Array]) -> Controller:
    """A controller that runs the expert plus the given action noise and keeps its clean action.

    Noise leads the arm off the expert's own path, so that the samples show how to come back.
    """

    def controller(state, noise):
        meant = expert(state)
        return jnp.clip(meant + noise, -1.0, 1.0), meant

    return controller


@dataclass(frozen=True)
class Collector:
    """Plays one expert episode per key: `(keys, noise_std, *, key) -> samples [T, B]`."""

    venv: VectorEnv
    calls: int
    chunk: int

    def __call__(
        self, keys: Key[Array, " B"], noise_std: Float[Array, ""], *, key: Key[Array, ""]
    ) -> Demonstrations:
        env = self.venv.env
        venv = replace(self.venv, controller=scripted(env.expert))
        batch = keys.shape[0]

        def body(carry, t):
            state, obs = carry
            noise_key, label_key = jax.random.split(jax.random.fold_in(key, t))
            noise = jax.random.normal(noise_key, (batch, self.chunk, env.action_size))
            following, next_obs, outcome = venv.chunk(state, noise_std * noise)
            asked = self._ask(state, key=label_key)
            valid = outcome.valid & jnp.logical_not(outcome.broken)[:, None]
            sample = Demonstrations(obs, asked, outcome.actions, valid, outcome.success)
            return (following, next_obs), sample

        _, samples = jax.lax.scan(body, venv.reset(keys), jnp.arange(self.calls))
        return samples.replace(success=jnp.broadcast_to(samples.success[-1], samples.success.shape))

    def _ask(self, state: State, *, key: Key[Array, ""]) -> Observation | None:
        env = self.venv.env
        if not (hasattr(env, "relabel") and hasattr(env, "pointing")):
            return None

        def one(state, key):
            other = env.relabel(state, key=key)
            return dict(other.obs, pointing=env.pointing(other))

        return jax.vmap(one)(state, jax.random.split(key, state.done.shape[0]))


def flatten(samples: Any) -> Any:
    """[T, B, ...] leaves to [T * B, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)
