"""The classifier at active sizes: 1x1 convolution, mean over pixels, a layer, classes."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from loomax.models.elastic.active import Size, keep, layer_norm
from loomax.models.elastic.leaves import Leaf, Leaves
from loomax.models.elastic.operator import Operator
from loomax.models.layers import matmul


class HeadSizes(NamedTuple):
    """Channels, and channels behind the 1x1 convolution (equal to them without)."""

    width: Size
    hidden: Size


def head_leaves(expand: bool, features: int, classes: int) -> Leaves:
    """Parameters; features 0 leaves its layer out."""
    leaves, before = {}, "hidden" if expand else "width"
    if expand:
        leaves |= {
            "expand": Leaf(("width", "hidden"), fan=(0,)),
            "expand_bias": Leaf(("hidden",)),
            "norm_scale": Leaf(("hidden",), fill=1.0),
            "norm_bias": Leaf(("hidden",)),
        }
    if features:
        leaves |= {
            "features": Leaf((before, features), fan=(0,)),
            "features_bias": Leaf((features,)),
        }
    last = features or before
    leaves |= {"classes": Leaf((last, classes), fan=(0,)), "classes_bias": Leaf((classes,))}
    return leaves


def head(p: dict, x: Float[Array, "B S S D"], sizes: HeadSizes) -> Float[Array, "B K"]:
    """Logits. The 1x1 convolution is followed by a layer norm, so it needs no statistics."""
    if "expand" in p:
        x = keep(matmul(x, p["expand"]) + p["expand_bias"], sizes.hidden)
        x = jax.nn.hard_swish(layer_norm(x, p["norm_scale"], p["norm_bias"], sizes.hidden))
    y = x.mean((1, 2))
    if "features" in p:
        y = jax.nn.hard_swish(matmul(y, p["features"]) + p["features_bias"])
    return matmul(y, p["classes"]) + p["classes_bias"]


def head_operator(lanes: tuple[HeadSizes, ...], leaves: Leaves) -> Operator:
    """The classifier with lanes of sizes and the parameters of `head_leaves`."""
    return Operator(head, leaves, lanes, outputs=None)
