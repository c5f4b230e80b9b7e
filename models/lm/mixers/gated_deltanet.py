"""Gated DeltaNet as a mixer (arXiv 2412.06464): short convolutions, unit keys, the delta rule.

Shape letters: L layers, B batch, T tokens, D width, N heads, H width of a head's query and key, V
of its value, P past inputs of the convolutions, E = N (2 H + V) channels of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from loomax.models.initialise import Rngs, normal
from loomax.models.layers import matmul
from loomax.models.lm.config import LMConfig
from loomax.models.lm.mixers.base import Mixer, gated_output, matrices
from loomax.models.lm.ops import delta
from loomax.models.lm.ops.convolution import causal, remember
from loomax.models.lm.span import Span, valid

# The inverse within a block costs its cube, so blocks are shorter than gated retention's.
LONGEST_CHUNK = 64


class GatedDeltaNet(nnx.Module):
    """Matrices of all heads, convolutions [L, P + 1, E], and the two gates of every head."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        make, inner = matrices(config, rngs, config.self_layers), _value_channels(config)
        layers, heads, dtype = config.self_layers, config.mixer_heads, config.param_dtype
        self.qkv = make(config.width, channels(config))
        self.gate = make(config.width, inner)
        self.beta = make(config.width, heads)
        self.decay = make(config.width, heads)
        self.taps = nnx.Param(
            normal(
                rngs,
                (layers, config.conv, channels(config)),
                config.conv**-0.5,
                jnp.dtype(dtype),
            )
        )
        # Decays start spread out: rates 1..16 a head, as in Mamba-2.
        rates = jnp.log(jnp.linspace(1.0, 16.0, heads))
        self.log_rate = nnx.Param(jnp.broadcast_to(rates, (layers, heads)).astype(dtype))
        # softplus(-4) = 0.018: early on, a head of rate 1 forgets over some fifty tokens.
        self.decay_bias = nnx.Param(jnp.full((layers, heads), -4.0, dtype))
        if config.delta.output_norm:
            self.output_norm = nnx.Param(jnp.ones((layers, config.value_width), dtype))
        self.out = make(inner, config.width, 0.5 / config.layers)


def channels(config: LMConfig) -> int:
    """Queries, keys and values of all heads side by side."""
    return 2 * config.mixer_heads * config.mixer_head_dim + _value_channels(config)


def _value_channels(config: LMConfig) -> int:
    return config.mixer_heads * config.value_width


class State(NamedTuple):
    """The matrix memory and the last inputs of the convolutions."""

    memory: Float[Array, "B N H V"]
    past: Float[Array, "B P E"]


class Inputs(NamedTuple):
    """Projections of a block, before the convolutions, with the taps of these."""

    qkv: Float[Array, "B T E"]
    beta: Float[Array, "B T N"]
    log_decay: Float[Array, "B T N"]
    taps: Float[Array, "P+1 E"]


def inputs(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], positions: Int[Array, "B T"]
) -> Inputs:
    del positions
    beta = jax.nn.sigmoid(matmul(x, p["beta"].astype(x.dtype)).astype(jnp.float32))
    beta = 2 * beta if config.delta.negative else beta
    level = matmul(x, p["decay"].astype(x.dtype)).astype(jnp.float32)
    speed = jax.nn.softplus(level + p["decay_bias"].astype(jnp.float32))
    log_decay = -jnp.exp(p["log_rate"].astype(jnp.float32)) * speed
    return Inputs(matmul(x, p["qkv"].astype(x.dtype)), beta, log_decay, p["taps"])


def _unit(x: Array) -> Array:
    """Each head divided by its length."""
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt(jnp.square(wide).sum(-1, keepdims=True) + 1e-6)


def queries_keys_values(
    config: LMConfig, convolved: Float[Array, "B T E"]
) -> tuple[Float[Array, "B T N H"], Float[Array, "B T N H"], Float[Array, "B T N V"]]:
    """Queries and keys of unit length, the former scaled by 1 / sqrt(H), and values."""
    heads, inner = config.mixer_heads, config.mixer_heads * config.mixer_head_dim
    parts = jnp.split(jax.nn.silu(convolved), [inner, 2 * inner], axis=-1)
    q, k, v = (part.reshape(*part.shape[:2], heads, -1) for part in parts)
    return _unit(q) * config.mixer_head_dim**-0.5, _unit(k), v


def mix(
    config: LMConfig, state: State | None, given: Inputs, span: Span
) -> tuple[Float[Array, "B T N V"], State | None]:
    batch, length, _ = given.qkv.shape
    old = empty(config, batch, 0) if state is None else state
    convolved = causal(given.qkv, given.taps, old.past, span.segments)
    q, k, v = queries_keys_values(config, convolved)
    real = valid(span, length)[..., None]
    y, memory = delta.chunkwise(
        q,
        k,
        v,
        jnp.where(real, given.beta, 0.0),
        jnp.where(real, given.log_decay, 0.0),
        old.memory,
        span.segments,
        chunk=min(config.chunk, LONGEST_CHUNK),
    )
    if state is None:
        return y, None
    return y, State(memory, remember(given.qkv, old.past, span.count))


def output(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], y: Float[Array, "B T N V"]
) -> Float[Array, "B T D"]:
    return gated_output(config, p, x, y)


def empty(config: LMConfig, batch: int, slots: int) -> State:
    del slots
    heads = (config.mixer_heads, config.mixer_head_dim, config.value_width)
    return State(
        jnp.zeros((batch, *heads), jnp.float32),
        jnp.zeros((batch, config.conv - 1, channels(config)), jnp.dtype(config.dtype)),
    )


MIXER: Any = Mixer(GatedDeltaNet, inputs, mix, output, empty)
