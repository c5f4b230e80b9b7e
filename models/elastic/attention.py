"""Convolution-augmented attention at active sizes, as in ElasticViT (arXiv 2303.09730).

Values are v-scale times as wide as queries and go through a depthwise convolution; logits have a
bias by relative position; hard-swish precedes the output projection. Pre-norm (over channels),
no biases of queries, keys and values.
Shape letters: B batch, S side in tokens, T table side, D width, N heads, H head width,
V value width of a head, K kernel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.models.elastic.active import Size, keep, layer_norm
from loomax.models.elastic.depthwise import depthwise
from loomax.models.elastic.leaves import Leaf, Leaves
from loomax.models.elastic.operator import Operator
from loomax.models.layers import matmul, wide_einsum


class AttentionSizes(NamedTuple):
    """Channels, heads, and the width of one head's values."""

    width: Size
    heads: Size
    value: Size


def attention_leaves(head_dim: int, value_kernel: int, side: int) -> Leaves:
    """Parameters.

    Args:
        value_kernel: side of the values' depthwise kernel; 0 leaves it out.
        side: largest side in tokens, for the table of positions; 0 leaves it out.
    """
    leaves = {
        "norm_scale": Leaf(("width",), fill=1.0),
        "norm_bias": Leaf(("width",)),
        "query": Leaf(("width", "heads", head_dim), fan=(0,)),
        "key": Leaf(("width", "heads", head_dim), fan=(0,)),
        "value": Leaf(("width", "heads", "value"), fan=(0,)),
        "output": Leaf(("heads", "value", "width"), fan=(0, 1)),
        "output_bias": Leaf(("width",)),
    }
    if value_kernel:
        leaves["value_conv"] = Leaf((value_kernel, value_kernel, "heads", "value"), fan=(0, 1))
    if side:
        leaves["position"] = Leaf((2 * side - 1, 2 * side - 1, "heads"))
    return leaves


def attention(
    p: dict, x: Float[Array, "B S S D"], sizes: AttentionSizes
) -> Float[Array, "B S S D"]:
    """x + output(hard_swish(attend(norm(x)))) over all S x S tokens."""
    batch, side, _, width = x.shape
    heads, value = p["value"].shape[1:]
    y = layer_norm(x, p["norm_scale"], p["norm_bias"], sizes.width)
    tokens = y.reshape(batch, side * side, width)
    q, k, v = (
        matmul(tokens, p[name].reshape(width, -1)).reshape(batch, side * side, heads, -1)
        for name in ("query", "key", "value")
    )
    if "value_conv" in p:
        maps = v.reshape(batch, side, side, heads * value)
        v = depthwise(maps, p["value_conv"].reshape(*p["value_conv"].shape[:2], 1, -1))
        v = v.reshape(batch, side * side, heads, value)
    logits = wide_einsum("bqnh,bsnh->bnqs", q, k) * q.shape[-1] ** -0.5
    if "position" in p:
        logits = logits + relative_bias(p["position"], side)
    mixed = jnp.einsum("bnqs,bsnv->bqnv", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)
    mixed = keep(keep(jax.nn.hard_swish(mixed), sizes.value), sizes.heads, axis=-2)
    out = matmul(mixed.reshape(*x.shape[:-1], heads * value), p["output"].reshape(-1, width))
    return x + keep(out + p["output_bias"], sizes.width)


def relative_bias(table: Float[Array, "T T N"], side: int) -> Float[Array, "N Q Q"]:
    """Biases of side^2 queries and keys: the table's middle, by row and column difference.

    Raises:
        ValueError: the table is too small for the side.
    """
    middle = table.shape[0] // 2
    if side - 1 > middle:
        raise ValueError(
            f"{side} x {side} tokens: give at most {middle + 1}, as the positions have"
        )
    row, column = jnp.divmod(jnp.arange(side * side), side)
    rows, columns = row[:, None] - row + middle, column[:, None] - column + middle
    return table[rows, columns].transpose(2, 0, 1)


def attention_operator(lanes: tuple[AttentionSizes, ...], leaves: Leaves) -> Operator:
    """The layer with lanes of sizes and the parameters of `attention_leaves`."""
    return Operator(attention, leaves, lanes)
