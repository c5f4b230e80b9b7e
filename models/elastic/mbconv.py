"""MBConv blocks with squeeze-and-excite at active sizes, and the convolution of the stem.

Shape letters: B batch, S side, R side behind the stride, I input width, O width, C channels.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.models.elastic.active import Size, batch_norm, fit, keep, keep_centre
from loomax.models.elastic.depthwise import depthwise
from loomax.models.elastic.leaves import Leaf, Leaves
from loomax.models.elastic.operator import Operator
from loomax.models.layers import matmul


class MBConvSizes(NamedTuple):
    """Channels in, out, and between; side of the kernel; hidden width of squeeze-and-excite."""

    width_in: Size
    width: Size
    hidden: Size
    kernel: Size
    squeeze: Size


class ConvSizes(NamedTuple):
    """Channels in and out."""

    width_in: Size
    width: Size


def _norm(name: str, axis: str) -> Leaves:
    return {f"{name}_scale": Leaf((axis,), fill=1.0), f"{name}_bias": Leaf((axis,))}


def mbconv_leaves(expand: bool, squeeze: bool, shortcut: bool) -> Leaves:
    """Parameters; `shortcut` is the 1x1 convolution of a skip path that may change the width."""
    leaves = {}
    if expand:
        leaves |= {"expand": Leaf(("width_in", "hidden"), fan=(0,)), **_norm("expand", "hidden")}
    leaves |= {
        "depthwise": Leaf(("kernel", "kernel", 1, "hidden"), fan=(0, 1)),
        **_norm("depthwise", "hidden"),
    }
    if squeeze:
        leaves |= {
            "down": Leaf(("hidden", "squeeze"), fan=(0,)),
            "down_bias": Leaf(("squeeze",)),
            "up": Leaf(("squeeze", "hidden"), fan=(0,)),
            "up_bias": Leaf(("hidden",)),
        }
    leaves |= {"project": Leaf(("hidden", "width"), fan=(0,)), **_norm("project", "width")}
    if shortcut:
        leaves["shortcut"] = Leaf(("width_in", "width"), fan=(0,))
    return leaves


def mbconv(
    p: dict, x: Float[Array, "B S S I"], sizes: MBConvSizes, *, stride: int = 1
) -> Float[Array, "B R R O"]:
    """Expand, depthwise, squeeze and excite, project; plus the skip path.

    Where the width stays the skip path is the (averaged) input, whatever `shortcut` holds.
    """
    y = x
    if "expand" in p:
        y = _normed(p, "expand", matmul(y, p["expand"]), sizes.hidden)
        y = jax.nn.hard_swish(y)
    y = depthwise(y, keep_centre(p["depthwise"], sizes.kernel), stride)
    y = jax.nn.hard_swish(_normed(p, "depthwise", y, sizes.hidden))
    if "down" in p:
        y = y * _excite(p, y, sizes.squeeze)[:, None, None, :]
    y = _normed(p, "project", matmul(y, p["project"]), sizes.width)
    return y + _skip(p, average_pool(x, stride), sizes)


def _normed(p: dict, name: str, x: Array, count: Size) -> Array:
    return batch_norm(x, p[f"{name}_scale"], p[f"{name}_bias"], count)


def _excite(p: dict, y: Float[Array, "B R R C"], squeeze: Size) -> Float[Array, "B C"]:
    z = jax.nn.relu(matmul(y.mean((1, 2)), p["down"]) + p["down_bias"])
    return jax.nn.hard_sigmoid(matmul(keep(z, squeeze), p["up"]) + p["up_bias"])


def _skip(p: dict, x: Array, sizes: MBConvSizes) -> Array:
    if "shortcut" not in p:
        return x
    stays = sizes.width_in == sizes.width
    if isinstance(stays, bool):
        return x if stays else matmul(x, p["shortcut"])
    changed = keep(matmul(x, p["shortcut"]), sizes.width)
    return jnp.where(stays, fit(x, changed.shape[-1]), changed)


def average_pool(x: Float[Array, "B S S C"], stride: int) -> Float[Array, "B R R C"]:
    """Means of stride x stride pixels, of those that there are at the border."""
    if stride == 1:
        return x

    def sums(y: Array) -> Array:
        window = (1, stride, stride, 1)
        return jax.lax.reduce_window(y, 0.0, jax.lax.add, window, window, "SAME")

    return sums(x) / sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def mbconv_operator(lanes: tuple[MBConvSizes, ...], leaves: Leaves, stride: int) -> Operator:
    """The block with lanes of sizes and the parameters of `mbconv_leaves`."""
    return Operator(partial(mbconv, stride=stride), leaves, lanes, inputs="width_in")


def convolution(
    p: dict, x: Float[Array, "B S S I"], sizes: ConvSizes, *, stride: int
) -> Float[Array, "B R R O"]:
    """Convolution, batch norm, hard-swish."""
    y = jax.lax.conv_general_dilated(
        x, p["conv"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.hard_swish(_normed(p, "conv", y, sizes.width))


def convolution_operator(lanes: tuple[ConvSizes, ...], kernel: int, stride: int) -> Operator:
    """The convolution with lanes of sizes."""
    leaf = Leaf((kernel, kernel, "width_in", "width"), fan=(0, 1, 2))
    leaves = {"conv": leaf, **_norm("conv", "width")}
    return Operator(partial(convolution, stride=stride), leaves, lanes, inputs="width_in")
