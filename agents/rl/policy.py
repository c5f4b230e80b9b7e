"""What reinforcement learning asks of a flow policy, and how it acts.

Axes: B batch, H horizon (actions a sample holds), A action dimensions, K denoising steps.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from loomax.envs.vector import Observation


@runtime_checkable
class FlowPolicy(Protocol):
    """A policy whose actions come from denoising; all methods are pure in `params`.

    `encode` is the expensive, usually frozen, part: once per observation. `velocity` is the
    part that each denoising step runs. `critic` names where the value comes from: "suffix" reads
    the hidden states of `velocity`, anything else needs the observation alone.
    """

    horizon: int
    action_dim: int
    critic: str

    def encode(self, params: PyTree, obs: Observation) -> PyTree: ...

    def velocity(
        self, params: PyTree, context: PyTree, x: Float[Array, "B H A"], t: Float[Array, " B"]
    ) -> tuple[Float[Array, "B H A"], Float[Array, "B H W"]]: ...

    def noise_std(self, params: PyTree, hidden: Float[Array, "B H W"]) -> Float[Array, "B H A"]: ...

    def value(
        self,
        params: PyTree,
        context: PyTree,
        privileged: Array,
        hidden: Float[Array, "B H W"] | None,
    ) -> Float[Array, " B"]: ...


def initial_noise(policy: FlowPolicy, batch: int, *, key: Key[Array, ""]) -> Float[Array, "B H A"]:
    """Standard normal starts of the denoising chain."""
    return jax.random.normal(key, (batch, policy.horizon, policy.action_dim), jnp.float32)
