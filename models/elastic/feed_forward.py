"""The feed-forward layer of a transformer at active sizes: pre-norm, hard-swish, residual."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from loomax.models.elastic.active import Size, keep, layer_norm
from loomax.models.elastic.leaves import Leaf
from loomax.models.elastic.operator import Operator
from loomax.models.layers import matmul


class FeedForwardSizes(NamedTuple):
    """Channels, and hidden units."""

    width: Size
    hidden: Size


FEED_FORWARD = {
    "norm_scale": Leaf(("width",), fill=1.0),
    "norm_bias": Leaf(("width",)),
    "up": Leaf(("width", "hidden"), fan=(0,)),
    "up_bias": Leaf(("hidden",)),
    "down": Leaf(("hidden", "width"), fan=(0,)),
    "down_bias": Leaf(("width",)),
}


def feed_forward(p: dict, x: Float[Array, "*B D"], sizes: FeedForwardSizes) -> Float[Array, "*B D"]:
    """x + down(hard_swish(up(norm(x))))."""
    y = layer_norm(x, p["norm_scale"], p["norm_bias"], sizes.width)
    y = keep(jax.nn.hard_swish(matmul(y, p["up"]) + p["up_bias"]), sizes.hidden)
    return x + keep(matmul(y, p["down"]) + p["down_bias"], sizes.width)


def feed_forward_operator(lanes: tuple[FeedForwardSizes, ...]) -> Operator:
    """The layer with lanes of sizes."""
    return Operator(feed_forward, FEED_FORWARD, lanes)
