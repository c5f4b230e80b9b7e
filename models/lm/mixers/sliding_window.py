"""Sliding-window attention as a mixer; its state is a ring of the last `window` tokens.

Shape letters: L layers, B batch, T tokens, D width, N heads, H head width, R slots of the ring.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from loomax.models.initialise import Rngs
from loomax.models.layers import matmul
from loomax.models.lm.config import LMConfig
from loomax.models.lm.kernels import attend_window
from loomax.models.lm.mixers.base import Mixer, heads_of, matrices, merge_heads
from loomax.models.lm.mixers.gated_retention import inner_width
from loomax.models.lm.ops.attend import Places
from loomax.models.lm.ops.local import ring_positions, ring_write
from loomax.models.lm.positions import turn
from loomax.models.lm.span import Span, positions, valid


class SlidingWindow(nnx.Module):
    """Four matrices [L, D, N H] (the last transposed); keys and values have all heads."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        make, inner = matrices(config, rngs, config.self_layers), inner_width(config)
        self.q = make(config.width, inner)
        self.k = make(config.width, inner)
        self.v = make(config.width, inner)
        self.out = make(inner, config.width, 0.5 / config.layers)


class State(NamedTuple):
    """Token p lies in slot p mod R."""

    keys: Float[Array, "B R N H"]
    values: Float[Array, "B R N H"]


class Inputs(NamedTuple):
    """Projections of a block, rotated."""

    q: Float[Array, "B T N H"]
    k: Float[Array, "B T N H"]
    v: Float[Array, "B T N H"]


def inputs(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], positions: Int[Array, "B T"]
) -> Inputs:
    q, k, v = (heads_of(x, p[name], config.mixer_heads) for name in ("q", "k", "v"))
    return Inputs(turn(config.rope, q, positions), turn(config.rope, k, positions), v)


def mix(
    config: LMConfig, state: State | None, given: Inputs, span: Span
) -> tuple[Float[Array, "B T N H"], State | None]:
    length = given.q.shape[1]
    at = jnp.where(valid(span, length), positions(span, length), -1)
    past = None
    if state is not None:
        past = (state.keys, state.values, ring_positions(span.start, config.window))
    y = attend_window(
        given.q,
        given.k,
        given.v,
        Places(at, span.segments),
        past,
        window=config.window,
        scale=config.mixer_head_dim**-0.5,
    )
    if state is None:
        return y, None
    rings = (
        ring_write(old, new, span.start, span.count)
        for old, new in ((state.keys, given.k), (state.values, given.v))
    )
    return y, State(*rings)


def output(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], y: Float[Array, "B T N H"]
) -> Float[Array, "B T D"]:
    del config
    return matmul(merge_heads(y), p["out"].astype(x.dtype))


def empty(config: LMConfig, batch: int, slots: int) -> State:
    del slots
    shape = (batch, config.window, config.mixer_heads, config.mixer_head_dim)
    ring = jnp.zeros(shape, jnp.dtype(config.dtype))
    return State(ring, ring)


MIXER: Any = Mixer(SlidingWindow, inputs, mix, output, empty)
