"""Running a stack of layers over a block of tokens.

Shape letters: L layers, B batch, T tokens, D width.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, PyTree

from loomax.memory.schedule.policy import remat_as
from loomax.models.layers import matmul, rms_normalise
from loomax.models.lm import kv
from loomax.models.lm.config import RESIDUALS, LMConfig
from loomax.models.lm.kernels import attend_cached, attend_rows, row_major
from loomax.models.lm.mixers import MIXERS
from loomax.models.lm.mixers.base import heads_of, merge_heads
from loomax.models.lm.positions import turn
from loomax.models.lm.span import Span, positions
from loomax.runtime.mesh import constrain


def normed(
    config: LMConfig, x: Float[Array, "B T D"], scale: Float[Array, " D"]
) -> Float[Array, "B T D"]:
    """RMSNorm with a learned scale; float32 inside."""
    return (rms_normalise(x, config.epsilon) * scale.astype(jnp.float32)).astype(x.dtype)


def hidden(config: LMConfig, p: PyTree, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """x + SwiGLU(norm(x))."""
    x = row_major(x)
    y, h = normed(config, x, p["hidden_norm"]), p["hidden"]
    opened = jax.nn.silu(matmul(y, h["gate"].astype(y.dtype)))
    passed = opened * matmul(y, h["up"].astype(y.dtype))
    return x + matmul(checkpoint_name(passed, "mlp_hidden"), h["down"].astype(y.dtype))


def over_layers(config: LMConfig, body: Callable, x: Any, stacked: PyTree, per_layer: Any) -> Any:
    """`body(x, (params, state)) -> (x, out)` over a stack: scanned, or unrolled.

    `per_layer` and each part of the outs are stacked on a leading axis when scanned, tuples of one
    entry a layer when unrolled.
    """
    body = remat_as(config.remat, body, RESIDUALS)
    if not config.unroll:
        return jax.lax.scan(body, x, (stacked, per_layer))
    outs = []
    for index in range(jax.tree.leaves(stacked)[0].shape[0]):
        p = jax.tree.map(lambda leaf, i=index: leaf[i], stacked)
        given = per_layer[index] if per_layer is not None else None
        x, out = body(x, (p, given))
        outs.append(out)
    return x, tuple(zip(*outs, strict=True)) if isinstance(outs[0], tuple) else tuple(outs)


def self_layers(
    config: LMConfig,
    params: PyTree,
    x: Float[Array, "B T D"],
    states: Any,
    span: Span,
    *,
    keep: bool = False,
    mix: Callable | None = None,
) -> tuple[Float[Array, "B T D"], Any, Any]:
    """All self layers, `loops` times.

    Args:
        states: one entry per loop (see `empty_states`), or None at the start of rows.
        keep: also return what each layer projected, from which `mix` can be repeated with another
            count.
        mix: stands in for the mixer's own, where a row is spread over devices.

    Returns the residual stream, the states after the span's real tokens, and the projections.
    """
    mixer, at = MIXERS[config.mixer], positions(span, x.shape[1])
    stacked = {"layer": params["self_layers"]}
    if config.kv_residual:
        stacked["share"] = params["kv_share"]

    def body(carry, given):
        (x, first), (p, state) = carry, given
        layer = p["layer"]
        y = normed(config, x, layer["mixer_norm"])
        projected = _named(mixer.inputs(config, layer["mixer"], y, at))
        if config.kv_residual:
            projected, first = share_first(projected, first, p["share"])
        if mix is None and mixer.together is not None:
            out, state = mixer.together(config, layer["mixer"], y, state, projected, span)
        else:
            mixed, state = (mix or mixer.mix)(config, state, projected, span)
            mixed = checkpoint_name(mixed.astype(x.dtype), "attn_out")
            out = mixer.output(config, layer["mixer"], y, mixed)
        x = constrain(hidden(config, layer, x + out), "batch", "length", None)
        return (x, first), (state, projected if keep else None)

    after, seen = [], []
    for loop in range(config.loops):
        first = None
        if config.kv_residual:
            first = jax.eval_shape(lambda x: _keys_values(mixer, config, stacked, x, at), x)
            first = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (*first, jnp.zeros(())))
        given = None if states is None else states[loop]
        (x, _), (state, projected) = over_layers(config, body, (x, first), stacked, given)
        after.append(state)
        seen.append(projected)
    return x, None if states is None else tuple(after), tuple(seen)


def _named(projected: Any) -> Any:
    """With a name for `remat` on what was projected, not on what follows from positions."""
    names = [name for name in ("qkv", "raw", "q", "k", "v") if name in projected._fields]
    return projected._replace(
        **{name: checkpoint_name(getattr(projected, name), "qkv") for name in names}
    )


def _keys_values(mixer, config: LMConfig, stacked: PyTree, x: Array, at: Array):
    p = jax.tree.map(lambda leaf: leaf[0], stacked["layer"]["mixer"])
    projected = mixer.inputs(config, p, x, at)
    return projected.k, projected.v


def share_first(projected: Any, first: tuple, share: Float[Array, "2"]) -> tuple[Any, tuple]:
    """Keys and values plus a share of the first layer's (YOCO++); the first layer sets these."""
    k, v, number = first
    begins = number == 0
    k = jnp.where(begins, projected.k, k)
    v = jnp.where(begins, projected.v, v)
    share = jnp.where(begins, 0, share.astype(k.dtype))
    projected = projected._replace(
        k=projected.k + share[0] * k,
        v=projected.v + share[1] * v,
    )
    return projected, (k, v, number + 1)


def empty_states(config: LMConfig, batch: int, slots: int) -> tuple:
    """States of all self layers for each loop, before any token."""

    def one():
        return MIXERS[config.mixer].empty(config, batch, slots)

    if config.unroll:
        return tuple(tuple(one() for _ in range(config.self_layers)) for _ in range(config.loops))
    stacked = jax.tree.map(
        lambda x: jnp.zeros((config.self_layers, *x.shape), x.dtype), jax.eval_shape(one)
    )
    return (stacked,) * config.loops


def global_keys_values(
    config: LMConfig, params: PyTree, x: Float[Array, "B T D"], span: Span
) -> tuple[Float[Array, "B T K H"], Float[Array, "B T K H"]]:
    """The one global KV of a block, from what the self-decoder made of it."""
    p = params["shared_kv"]
    y = normed(config, x, p["norm"])
    k, v = (heads_of(y, p[name], config.kv_heads) for name in ("k", "v"))
    if config.cross_rope:
        k = turn(config.rope, k, positions(span, x.shape[1]))
    return k, v


def cross_layers(
    config: LMConfig, params: PyTree, x: Float[Array, "B T D"], keys_values: Any, span: Span
) -> Float[Array, "B T D"]:
    """All cross layers.

    Args:
        keys_values: a pair (keys, values) of the same rows, the cache's `KV`, or a function that
            reads keys and values from elsewhere for given queries.
    """
    at, scale = positions(span, x.shape[1]), config.head_dim**-0.5

    def body(x, given):
        p, _ = given
        q = heads_of(normed(config, x, p["mixer_norm"]), p["mixer"]["q"], config.heads)
        if config.cross_rope:
            q = turn(config.rope, q, at)
        q = checkpoint_name(q, "qkv")
        if callable(keys_values):
            mixed = keys_values(q)
        elif isinstance(keys_values, kv.KV):
            mixed = attend_cached(q, keys_values, span, scale=scale)
        else:
            keys, values = keys_values
            mixed = attend_rows(q, keys, values, span, scale=scale)
        mixed = checkpoint_name(merge_heads(mixed), "attn_out")
        out = matmul(mixed, p["mixer"]["out"].astype(x.dtype))
        return constrain(hidden(config, p, x + out), "batch", "length", None), None

    return over_layers(config, body, x, params["cross_layers"], None)[0]
