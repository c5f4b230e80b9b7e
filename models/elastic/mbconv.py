"""MBConv blocks with squeeze-and-excite at active sizes, and the convolution of the stem.

Shape letters: B batch, S side, R side behind the stride, I input width, O width, C channels.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from loomax.models.elastic.active import Size, batch_norm, fit, keep, keep_centre
from loomax.models.elastic.depthwise import depthwise, patches, sum_windows
from loomax.models.elastic.elastic_switch import keep_for_gradient
from loomax.models.elastic.leaves import Leaf, Leaves
from loomax.models.elastic.operator import Operator
from loomax.models.layers import matmul
from loomax.runtime.compile import target_platform


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
    p: dict,
    x: Float[Array, "B S S I"],
    sizes: MBConvSizes,
    *,
    stride: int = 1,
    reference: int | None = None,
) -> Float[Array, "B R R O"]:
    """Expand, depthwise, squeeze and excite, project; plus the skip path.

    Where the width stays the skip path is the (averaged) input, whatever `shortcut` holds.

    Args:
        reference: images that give the statistics, see `batch_norm`.
    """
    y = x
    if "expand" in p:
        y = _normed(p, "expand", matmul(y, p["expand"]), sizes.hidden, reference)
        y = jax.nn.hard_swish(y)
    y = depthwise(y, keep_centre(p["depthwise"], sizes.kernel), stride)
    y = jax.nn.hard_swish(_normed(p, "depthwise", y, sizes.hidden, reference))
    if "down" in p:
        y = y * _excite(p, y, sizes.squeeze)[:, None, None, :]
    y = _normed(p, "project", matmul(y, p["project"]), sizes.width, reference)
    return y + _skip(p, average_pool(x, stride), sizes)


def _normed(p: dict, name: str, x: Array, count: Size, reference: int | None) -> Array:
    return batch_norm(x, p[f"{name}_scale"], p[f"{name}_bias"], count, reference)


def _excite(p: dict, y: Float[Array, "B R R C"], squeeze: Size) -> Float[Array, "B C"]:
    pooled = keep_for_gradient(y.mean((1, 2)))
    z = jax.nn.relu(matmul(pooled, p["down"]) + p["down_bias"])
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
    side, count = x.shape[1], -(-x.shape[1] // stride)
    start = stride * np.arange(count) - (count * stride - side) // 2
    held = np.minimum(start + stride, side) - np.maximum(start, 0)
    return sum_windows(x, stride) / (held[:, None] * held)[..., None].astype(x.dtype)


def mbconv_operator(
    lanes: tuple[MBConvSizes, ...], leaves: Leaves, stride: int, reference: int | None = None
) -> Operator:
    """The block with lanes of sizes and the parameters of `mbconv_leaves`."""
    block = partial(mbconv, stride=stride, reference=reference)
    return Operator(block, leaves, lanes, inputs="width_in")


def convolution(
    p: dict,
    x: Float[Array, "B S S I"],
    sizes: ConvSizes,
    *,
    stride: int,
    reference: int | None = None,
) -> Float[Array, "B R R O"]:
    """Convolution, batch norm, hard-swish."""
    kernel = p["conv"]
    # Inside a conditional XLA:CPU takes eight times as long for the convolution and its gradient.
    if target_platform() == "cpu":
        y = matmul(patches(x, len(kernel), stride), kernel.reshape(-1, kernel.shape[-1]))
    else:
        y = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return jax.nn.hard_swish(_normed(p, "conv", y, sizes.width, reference))


def convolution_operator(
    lanes: tuple[ConvSizes, ...], kernel: int, stride: int, reference: int | None = None
) -> Operator:
    """The convolution with lanes of sizes."""
    leaf = Leaf((kernel, kernel, "width_in", "width"), fan=(0, 1, 2))
    leaves = {"conv": leaf, **_norm("conv", "width")}
    first = partial(convolution, stride=stride, reference=reference)
    return Operator(first, leaves, lanes, inputs="width_in")
