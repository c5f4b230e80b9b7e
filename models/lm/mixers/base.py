"""What a token mixer consists of, so that one layer and one cache serve them all.

A mixer is a few pure functions and a module that owns the parameters of one stack of layers:

    inputs(config, p, x, positions)  projections of a block of tokens: pure, without any state
    mix(config, state, given, span)  outputs of the block, and the state after its real tokens
    output(config, p, x, y)          back to the width of the residual stream
    empty(config, batch, slots)      the state of a sequence without tokens
    together(config, p, x, state, given, span)
                                     `output` behind `mix`, where one kernel can do both

`mix` with state None starts at the beginning of the rows and returns None: training. What `inputs`
returned can be mixed again with another count: that is how rejected drafts are taken back.

Shape letters: L layers, B batch, T tokens, D model width, N heads, H head width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from loomax.models.initialise import Rngs, normal
from loomax.models.layers import matmul, rms_normalise
from loomax.models.lm.config import LMConfig


@dataclass(frozen=True)
class Mixer:
    """The parts of a mixer; see above."""

    module: Callable[[LMConfig, Rngs], nnx.Module]
    inputs: Callable[..., Any]
    mix: Callable[..., tuple[Array, Any]]
    output: Callable[..., Array]
    empty: Callable[[LMConfig, int, int], Any]
    together: Callable[..., tuple[Array, Any]] | None = None


def matrices(config: LMConfig, rngs: Rngs, layers: int) -> Callable[..., nnx.Param]:
    """A maker of stacked matrices [L, I, O] with entries of variance `gain` / I."""
    dtype = jnp.dtype(config.param_dtype)

    def make(inputs: int, outputs: int, gain: float = 1.0) -> nnx.Param:
        std = (gain / inputs) ** 0.5
        return nnx.Param(normal(rngs, (layers, inputs, outputs), std, dtype))

    return make


def heads_of(
    x: Float[Array, "B T D"], kernel: Float[Array, "D NH"], heads: int
) -> Float[Array, "B T N H"]:
    """A projection split into heads."""
    y = matmul(x, kernel.astype(x.dtype))
    return y.reshape(*y.shape[:2], heads, -1)


def merge_heads(y: Float[Array, "B T N H"]) -> Float[Array, "B T NH"]:
    """Heads side by side."""
    return y.reshape(*y.shape[:2], -1)


def gated_output(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], y: Float[Array, "B T N H"]
) -> Float[Array, "B T D"]:
    """Each head normalised, gated by swish(x W_g), projected back.

    The norm has a learned scale [H] for all heads where the mixer has `output_norm`.
    """
    wide = rms_normalise(y, config.epsilon)
    if "output_norm" in p:
        wide = wide * p["output_norm"].astype(jnp.float32)
    normed = merge_heads(wide).astype(x.dtype)
    gate = jax.nn.silu(matmul(x, p["gate"].astype(x.dtype)))
    return matmul(gate * normed, p["out"].astype(x.dtype))
