"""Full causal attention with grouped queries as a mixer; its state is the KV of its layer.

Shape letters: L layers, B batch, T tokens, D width, N query heads, K key-value heads, H head width.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from loomax.models.initialise import Rngs
from loomax.models.layers import matmul
from loomax.models.lm import kv
from loomax.models.lm.config import LMConfig
from loomax.models.lm.kernels import attend_cached, attend_rows
from loomax.models.lm.mixers.base import Mixer, heads_of, matrices, merge_heads
from loomax.models.lm.positions import turn
from loomax.models.lm.span import Span


class Attention(nnx.Module):
    """q [L, D, N H], k and v [L, D, K H], out [L, N H, D]."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        make, c = matrices(config, rngs, config.self_layers), config
        self.q = make(c.width, c.heads * c.head_dim)
        self.k = make(c.width, c.kv_heads * c.head_dim)
        self.v = make(c.width, c.kv_heads * c.head_dim)
        self.out = make(c.heads * c.head_dim, c.width, 0.5 / c.layers)


class Inputs(NamedTuple):
    """Projections of a block, rotated."""

    q: Float[Array, "B T N H"]
    k: Float[Array, "B T K H"]
    v: Float[Array, "B T K H"]


def inputs(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], positions: Int[Array, "B T"]
) -> Inputs:
    q = heads_of(x, p["q"], config.heads)
    k, v = (heads_of(x, p[name], config.kv_heads) for name in ("k", "v"))
    return Inputs(turn(config.rope, q, positions), turn(config.rope, k, positions), v)


def mix(
    config: LMConfig, state: kv.KV | None, given: Inputs, span: Span
) -> tuple[Float[Array, "B T N H"], kv.KV | None]:
    scale = config.head_dim**-0.5
    if state is None:
        return attend_rows(*given, span, scale=scale), None
    state = kv.write(state, given.k, given.v, span.start, span.count)
    return attend_cached(given.q, state, span, scale=scale), state


def output(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], y: Float[Array, "B T N H"]
) -> Float[Array, "B T D"]:
    del config
    return matmul(merge_heads(y), p["out"].astype(x.dtype))


def empty(config: LMConfig, batch: int, slots: int) -> kv.KV:
    widths = (config.head_dim, config.head_dim)
    dtype = jnp.dtype(config.dtype)
    return kv.empty(batch, slots, config.kv_heads, widths, dtype, config.kv_bits)


MIXER: Any = Mixer(Attention, inputs, mix, output, empty)
