"""Multi-head latent attention as a mixer (DeepSeek-V2, arXiv 2405.04434, section 2.1).

Only a latent c and one rotary key are cached for each token. The up-projections of keys and values
are absorbed into the queries and the output, so the latent is attended to as it is: one key-value
head whose key is [c, rotary key] and whose value is c.

Shape letters: L layers, B batch, T tokens, D width, N heads, C latent width, R rotary width,
E = C + R.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from loomax.models.initialise import Rngs
from loomax.models.layers import matmul, rms_normalise
from loomax.models.lm import kv
from loomax.models.lm.config import LMConfig
from loomax.models.lm.kernels import attend_cached, attend_rows
from loomax.models.lm.mixers.base import Mixer, heads_of, matrices, merge_heads
from loomax.models.lm.positions import magnitude, turn
from loomax.models.lm.span import Span


class LatentAttention(nnx.Module):
    """Down-projections to latent and rotary key, up-projections of keys and values by head."""

    def __init__(self, config: LMConfig, rngs: Rngs):
        make, c, m = matrices(config, rngs, config.self_layers), config, config.mla
        self.q = make(c.width, c.heads * (m.nope + m.rope))
        self.down = make(c.width, m.latent + m.rope)
        self.up_k = make(m.latent, c.heads * m.nope)
        self.up_v = make(m.latent, c.heads * m.value)
        self.out = make(c.heads * m.value, c.width, 0.5 / c.layers)


class Inputs(NamedTuple):
    """Absorbed queries, and the key whose first C numbers are the value."""

    q: Float[Array, "B T N E"]
    k: Float[Array, "B T 1 E"]
    v: Float[Array, "B T 1 C"]


def inputs(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], positions: Int[Array, "B T"]
) -> Inputs:
    m = config.mla
    q = heads_of(x, p["q"], config.heads)
    fixed = q[..., : m.nope]
    turned = turn(config.rope, q[..., m.nope :], positions, scaled=False)
    up = p["up_k"].astype(x.dtype).reshape(m.latent, config.heads, m.nope)
    absorbed = jnp.einsum("btnh,cnh->btnc", fixed, up)
    down = matmul(x, p["down"].astype(x.dtype))[:, :, None]
    latent = rms_normalise(down[..., : m.latent], config.epsilon).astype(x.dtype)
    key = turn(config.rope, down[..., m.latent :], positions, scaled=False)
    return Inputs(
        jnp.concatenate([absorbed, turned], axis=-1),
        jnp.concatenate([latent, key], axis=-1),
        latent,
    )


def score_scale(config: LMConfig) -> float:
    """Factor on the scores.

    What makes a stretched model's attention sharper counts for whole scores, as in DeepSeek's code,
    and not for their rotary part alone.
    """
    return (config.mla.nope + config.mla.rope) ** -0.5 * magnitude(config.rope) ** 2


def mix(
    config: LMConfig, state: kv.KV | None, given: Inputs, span: Span
) -> tuple[Float[Array, "B T N C"], kv.KV | None]:
    scale = score_scale(config)
    if state is None:
        return attend_rows(*given, span, scale=scale), None
    state = kv.write(state, given.k, given.v, span.start, span.count)
    return attend_cached(given.q, state, span, scale=scale), state


def output(
    config: LMConfig, p: dict, x: Float[Array, "B T D"], y: Float[Array, "B T N C"]
) -> Float[Array, "B T D"]:
    up = p["up_v"].astype(x.dtype).reshape(config.mla.latent, config.heads, config.mla.value)
    values = jnp.einsum("btnc,cnh->btnh", y, up)
    return matmul(merge_heads(values), p["out"].astype(x.dtype))


def empty(config: LMConfig, batch: int, slots: int) -> kv.KV:
    m = config.mla
    widths = (m.latent + m.rope, m.latent)
    return kv.empty(batch, slots, 1, widths, jnp.dtype(config.dtype), config.kv_bits)


MIXER: Any = Mixer(LatentAttention, inputs, mix, output, empty)
