"""Gated retention as a mixer (YOCO, arXiv 2405.05254, section 3.1).

Shape letters: L layers, B batch, T tokens, D width, N heads, H head width.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from loomax.models.initialise import Rngs
from loomax.models.layers import matmul
from loomax.models.lm.config import LMConfig
from loomax.models.lm.kernels import retention
from loomax.models.lm.mixers.base import Mixer, gated_output, heads_of, matrices, merge_heads
from loomax.models.lm.positions import Turns, turned, turns
from loomax.models.lm.span import Span, valid

State = Float[Array, "B N H H"]


class GatedRetention(nnx.Module):
    """Five matrices [L, D, N H] (the last transposed) and the decay's [L, D, N]."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        make, inner = matrices(config, rngs, config.self_layers), inner_width(config)
        self.q = make(config.width, inner)
        self.k = make(config.width, inner)
        self.v = make(config.width, inner)
        self.gate = make(config.width, inner)
        self.decay = make(config.width, config.mixer_heads)
        self.out = make(inner, config.width, 0.5 / config.layers)


class Inputs(NamedTuple):
    """Projections of a block.

    Queries, `raw`, and keys are not rotated by `turns` (of `positions`) yet, nor are keys
    scaled: a kernel does that on its way, and it is linear, so that keys may be added up before.
    """

    raw: Float[Array, "B T N H"]
    k: Float[Array, "B T N H"]
    v: Float[Array, "B T N H"]
    log_decay: Float[Array, "B T N"]
    turns: Turns | None

    @property
    def q(self) -> Float[Array, "B T N H"]:
        """Queries, rotated."""
        return turned(self.raw, self.turns)


def inner_width(config: LMConfig) -> int:
    """Width of all heads."""
    return config.mixer_heads * config.mixer_head_dim


def inputs(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], positions: Int[Array, "B T"]
) -> Inputs:
    q, k, v = (heads_of(x, p[name], config.mixer_heads) for name in ("q", "k", "v"))
    level = matmul(x, p["decay"].astype(x.dtype)).astype(jnp.float32)
    log_decay = jax.nn.log_sigmoid(level) / config.tau
    return Inputs(q, k, v, log_decay, turns(config.rope, config.mixer_head_dim, positions))


def mix(
    config: LMConfig,
    state: State | None,
    given: Inputs,
    span: Span,
    *,
    epsilon: float | None = None,
) -> tuple[Float[Array, "B T N H"], State | None]:
    real = valid(span, given.raw.shape[1])[..., None]
    k, parts = given.k, given.turns
    # Without a key and without decay a token leaves the state as it was.
    if parts is None:
        k = jnp.where(real[..., None], k, 0)
    else:
        parts = tuple(jnp.where(real, part, 0.0) for part in parts)
    y, after = retention(
        given.raw,
        k,
        given.v,
        jnp.where(real, given.log_decay, 0.0),
        state,
        span.segments,
        parts,
        chunk=config.chunk,
        scale=config.mixer_head_dim**-0.5,
        epsilon=epsilon,
    )
    return y, None if state is None else after


def output(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], y: Float[Array, "B T N H"]
) -> Float[Array, "B T D"]:
    return gated_output(config, p, x, y)


def together(
    config: LMConfig,
    p: dict,
    x: Float[Array, "B T D"],
    state: State | None,
    given: Inputs,
    span: Span,
) -> tuple[Float[Array, "B T D"], State | None]:
    """`output` behind `mix`; heads are normalised where they are still in fast memory."""
    y, state = mix(config, state, given, span, epsilon=config.epsilon)
    y = checkpoint_name(y, "attn_out")
    gate = jax.nn.silu(matmul(x, p["gate"].astype(x.dtype)))
    return matmul(gate * merge_heads(y), p["out"].astype(x.dtype)), state


def empty(config: LMConfig, batch: int, slots: int) -> State:
    del slots
    size = config.mixer_head_dim
    return jnp.zeros((batch, config.mixer_heads, size, size), jnp.float32)


MIXER = Mixer(GatedRetention, inputs, mix, output, empty, together)
