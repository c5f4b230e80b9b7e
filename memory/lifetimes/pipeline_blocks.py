"""The layers of a pipeline: real forward and backward jaxprs of small blocks, in plain JAX.

Letters: B batch, S positions, T tokens (B * S), D width, H heads, E experts, R rows of one expert.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loomax.memory.lifetimes.jaxpr import Program, bytes_of, flatten
from loomax.memory.lifetimes.pipeline_config import BlockConfig

# Sizes of an expert's buffers are linear in its rows: two counts of rows give the line.
ROWS = (256, 512)


@dataclass(frozen=True)
class Block:
    """A differentiable part of a layer.

    Args:
        primal: (parameters, activations) -> results.
        forward: (parameters, activations) -> (results, residuals).
        backward: (residuals, cotangents of the results) -> (of parameters, of activations).
        parameters: bytes of each.
        results: how many.
    """

    primal: Program
    forward: Program
    backward: Program
    parameters: tuple[int, ...]
    results: int


def trace_block(
    function: Callable[..., Any], parameters: list[Any], args: list[Any], fixed: tuple = ()
) -> Block:
    """Reads a function of a list of parameters and of arrays, and its `jax.vjp`.

    Args:
        fixed: further arguments, which have no gradient.
    """

    def forward(parameters: list[Any], args: list[Any], fixed: tuple) -> Any:
        return jax.vjp(
            lambda parameters, args: function(parameters, *args, *fixed), parameters, args
        )

    primal = jax.make_jaxpr(lambda p, args, fixed: function(p, *args, *fixed))(
        parameters, args, fixed
    )
    ahead, (out, pullback) = jax.make_jaxpr(forward, return_shape=True)(parameters, args, fixed)
    back = jax.make_jaxpr(lambda pullback, out: pullback(out))(pullback, out)
    return Block(
        flatten(primal, views=True),
        flatten(ahead, views=True),
        flatten(back, views=True),
        tuple(bytes_of(parameter) for parameter in parameters),
        len(jax.tree.leaves(out)),
    )


def norm(x: Float[Array, "*B D"], scale: Float[Array, " D"]) -> Float[Array, "*B D"]:
    """RMS norm."""
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + 1e-6)
    return (wide * inverse).astype(x.dtype) * scale


def attention(parameters: list[Array], x: Float[Array, "B S D"], heads: int) -> Any:
    """Causal self-attention with a residual."""
    scale, qkv, out = parameters
    batch, length, width = x.shape
    parts = jnp.split(norm(x, scale) @ qkv, 3, -1)
    query, key, value = (part.reshape(batch, length, heads, -1) for part in parts)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * (width // heads) ** -0.5
    seen = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e9).astype(jnp.float32)).astype(x.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
    return x + mixed @ out


def feed_forward(parameters: list[Array], x: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
    """Two matrices with a residual."""
    scale, up, down = parameters
    return x + jax.nn.gelu(norm(x, scale) @ up) @ down


def route(parameters: list[Array], x: Float[Array, "B S D"]) -> Any:
    """What is sent to the experts, and each expert's weight."""
    scale, router = parameters
    sent = norm(x, scale)
    gates = jax.nn.softmax((sent @ router).astype(jnp.float32)).astype(x.dtype)
    return sent.reshape(-1, x.shape[-1]), gates.reshape(-1, router.shape[-1])


def expert(
    parameters: list[Array],
    sent: Float[Array, "T D"],
    gates: Float[Array, "T E"],
    total: Float[Array, "B S D"],
    rows: Int[Array, " R"],
) -> Float[Array, "B S D"]:
    """Adds what one expert says about its rows."""
    up, down = parameters
    inside = sent.at[rows].get(mode="promise_in_bounds")
    weight = gates.at[rows, 0].get(mode="promise_in_bounds")
    said = (jax.nn.gelu(inside @ up) @ down) * weight[:, None]
    flat = total.reshape(sent.shape).at[rows].add(said, mode="promise_in_bounds")
    return flat.reshape(total.shape)


@cache
def dense_block(config: BlockConfig) -> Block:
    """Attention and feed-forward."""
    width, hidden = config.width, config.hidden

    def layer(parameters: list[Array], x: Array) -> Array:
        return feed_forward(parameters[3:], attention(parameters[:3], x, config.heads))

    shapes = [(width,), (width, 3 * width), (width, width), (width,)]
    shapes += [(width, hidden), (hidden, width)]
    return trace_block(layer, [spec(*shape) for shape in shapes], [activations(config)])


@cache
def routed_block(config: BlockConfig) -> Block:
    """Attention and the router of a mixture of experts."""
    width = config.width

    def layer(parameters: list[Array], x: Array) -> Any:
        after = attention(parameters[:3], x, config.heads)
        return after, *route(parameters[3:], after)

    shapes = [(width,), (width, 3 * width), (width, width), (width,), (width, config.experts)]
    return trace_block(layer, [spec(*shape) for shape in shapes], [activations(config)])


@cache
def expert_block(config: BlockConfig, rows: int) -> Block:
    """One expert with that many rows."""
    tokens = config.batch * config.length
    parameters = [spec(config.width, config.hidden), spec(config.hidden, config.width)]
    sent, gates = spec(tokens, config.width), spec(tokens, config.experts)
    indices = jax.ShapeDtypeStruct((rows,), jnp.int32)

    return trace_block(expert, parameters, [sent, gates, activations(config)], (indices,))


def expert_sizes(few: Program, many: Program, rows: int) -> tuple[tuple[int, ...], frozenset[int]]:
    """Bytes of an expert program's values for `rows` rows, and the values that depend on them.

    Args:
        few, many: the program for `ROWS` rows.
    """
    pairs = list(zip(few.sizes, many.sizes, strict=True))
    sizes = tuple(
        low + (high - low) * (rows - ROWS[0]) // (ROWS[1] - ROWS[0]) for low, high in pairs
    )
    return sizes, frozenset(value for value, (low, high) in enumerate(pairs) if low != high)


def spec(*shape: int) -> jax.ShapeDtypeStruct:
    """An array in the precision that models are trained in."""
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


def activations(config: BlockConfig) -> jax.ShapeDtypeStruct:
    """What one layer hands to the next."""
    return spec(config.batch, config.length, config.width)
