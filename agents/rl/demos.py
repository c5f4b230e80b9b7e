"""Scripted demonstrations: observations at chunk boundaries and the actions that followed.

Axes: N samples, C actions of a chunk, A action dimensions.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from loomax.envs.types import State
from loomax.envs.vector import Controller, Observation, VectorEnv


@struct.dataclass
class Demonstrations:
    """Samples of a scripted expert; leading axes are [T, B] when collected, [N] when flattened."""

    obs: Observation
    actions: Float[Array, "*n C A"]
    valid: Bool[Array, "*n C"]
    success: Bool[Array, "*n"]


def scripted(expert: Callable[[State], Array], noise_std: float) -> Controller:
    """A controller that runs the expert under Gaussian action noise and keeps its clean action.

    Noise leads the arm off the expert's own path, so that the samples show how to come back.
    """

    def controller(state, noise):
        meant = expert(state)
        return jnp.clip(meant + noise_std * noise, -1.0, 1.0), meant

    return controller


def collect(
    venv: VectorEnv,
    keys: Key[Array, " B"],
    *,
    chunks: int,
    chunk: int,
    expert: Callable[[State], Array],
    noise_std: float,
    relabel: Callable[..., State] | None = None,
    key: Key[Array, ""],
) -> Demonstrations:
    """One expert episode per key, as [chunks, B] samples.

    Args:
        relabel: `(state, *, key) -> state` that gives another valid instruction for the same
            scene. With it the observations name an object that the arm need not be after, so
            that grounding cannot be read off the arm's motion.
    """
    venv = replace(venv, controller=scripted(expert, noise_std))
    state, obs = venv.reset(keys)
    batch, size = keys.shape[0], venv.env.action_size

    def body(carry, t):
        state, obs = carry
        noise_key, label_key = jax.random.split(jax.random.fold_in(key, t))
        noise = jax.random.normal(noise_key, (batch, chunk, size))
        following, next_obs, outcome = venv.chunk(state, noise)
        kept = dict(obs)
        if relabel is not None:
            labelled = jax.vmap(lambda s, k: relabel(s, key=k))(
                state, jax.random.split(label_key, batch)
            )
            kept.update(labelled.obs)
        sample = Demonstrations(kept, outcome.actions, outcome.valid, outcome.success)
        return (following, next_obs), sample

    _, samples = jax.lax.scan(body, (state, obs), jnp.arange(chunks))
    return samples.replace(success=jnp.broadcast_to(samples.success[-1], samples.success.shape))


def flatten(samples: Any) -> Any:
    """[T, B, ...] leaves to [T * B, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)
