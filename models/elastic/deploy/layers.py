"""The blocks of a fixed network. Their parameters have the names that the supernet gives them.

Shape letters: B batch, S side, R side behind the stride, I input width, D width, C channels.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from loomax.models.elastic.deploy.spec import (
    AttentionSpec,
    ConvSpec,
    FeedForwardSpec,
    HeadSpec,
    MBConvSpec,
)
from loomax.models.elastic.depthwise import depthwise
from loomax.models.elastic.mbconv import average_pool
from loomax.models.initialise import Rngs, normal
from loomax.models.layers import layer_norm, matmul, wide_einsum

LAYOUT = ("NHWC", "HWIO", "NHWC")


class BatchNorm(nnx.Module):
    """Batch normalisation, epsilon 1e-5, in float32.

    In training by the batch's own statistics, which are then stored; else by the stored ones.
    """

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.mean = nnx.BatchStat(jnp.zeros(width))
        self.variance = nnx.BatchStat(jnp.ones(width))

    def __call__(self, x: Float[Array, "B *S C"], train: bool) -> Float[Array, "B *S C"]:
        wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
        if train:
            self.mean[...] = wide.mean(axes)
            self.variance[...] = jnp.square(wide - self.mean[...]).mean(axes)
        scale = jax.lax.rsqrt(self.variance[...] + 1e-5) * self.scale[...]
        return ((wide - self.mean[...]) * scale + self.bias[...]).astype(x.dtype)


def weight(rngs: Rngs, *shape: int, fan: int) -> nnx.Param:
    """N(0, 1 / fan)."""
    return nnx.Param(normal(rngs, shape, fan**-0.5))


def zeros(*shape: int) -> nnx.Param:
    """A bias."""
    return nnx.Param(jnp.zeros(shape))


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """Keeps ceil(side / stride) pixels."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT
    )


def project(x: Float[Array, "B T D"], kernel: Float[Array, "D N H"]) -> Float[Array, "B T N H"]:
    """x @ kernel, heads apart."""
    return matmul(x, kernel.reshape(len(kernel), -1)).reshape(*x.shape[:2], *kernel.shape[1:])


class Convolution(nnx.Module):
    """Convolution, batch norm, hard-swish."""

    def __init__(self, spec: ConvSpec, *, rngs: Rngs):
        self.spec = spec
        k, fan = spec.kernel, spec.kernel**2 * spec.width_in
        self.conv = weight(rngs, k, k, spec.width_in, spec.width, fan=fan)
        self.conv_norm = BatchNorm(spec.width)

    def __call__(self, x: Float[Array, "B S S I"], train: bool) -> Float[Array, "B R R D"]:
        y = convolve(x, self.conv[...], self.spec.stride)
        return jax.nn.hard_swish(self.conv_norm(y, train))


class MBConv(nnx.Module):
    """Expand, depthwise, squeeze and excite, project; plus the skip path."""

    def __init__(self, spec: MBConvSpec, *, rngs: Rngs):
        self.spec = spec
        hidden, squeeze = spec.hidden, spec.squeeze
        if spec.expand:
            self.expand = weight(rngs, spec.width_in, hidden, fan=spec.width_in)
            self.expand_norm = BatchNorm(hidden)
        self.depthwise = weight(rngs, spec.kernel, spec.kernel, 1, hidden, fan=spec.kernel**2)
        self.depthwise_norm = BatchNorm(hidden)
        if squeeze:
            self.down, self.down_bias = weight(rngs, hidden, squeeze, fan=hidden), zeros(squeeze)
            self.up, self.up_bias = weight(rngs, squeeze, hidden, fan=squeeze), zeros(hidden)
        self.project = weight(rngs, hidden, spec.width, fan=hidden)
        self.project_norm = BatchNorm(spec.width)
        if spec.width_in != spec.width:
            self.shortcut = weight(rngs, spec.width_in, spec.width, fan=spec.width_in)

    def __call__(self, x: Float[Array, "B S S I"], train: bool) -> Float[Array, "B R R D"]:
        y, spec = x, self.spec
        if spec.expand:
            y = jax.nn.hard_swish(self.expand_norm(matmul(y, self.expand[...]), train))
        y = depthwise(y, self.depthwise[...], spec.stride)
        y = jax.nn.hard_swish(self.depthwise_norm(y, train))
        if spec.squeeze:
            z = jax.nn.relu(matmul(y.mean((1, 2)), self.down[...]) + self.down_bias[...])
            gate = jax.nn.hard_sigmoid(matmul(z, self.up[...]) + self.up_bias[...])
            y = y * gate[:, None, None, :]
        y = self.project_norm(matmul(y, self.project[...]), train)
        skip = average_pool(x, spec.stride)
        return y + (skip if spec.width_in == spec.width else matmul(skip, self.shortcut[...]))


class Attention(nnx.Module):
    """Pre-norm attention with convolved values and positions, as in ElasticViT; residual."""

    def __init__(self, spec: AttentionSpec, *, rngs: Rngs):
        self.spec = spec
        d, n, v, k = spec.width, spec.heads, spec.value, spec.value_kernel
        self.norm_scale, self.norm_bias = nnx.Param(jnp.ones(d)), zeros(d)
        self.query = weight(rngs, d, n, spec.head_dim, fan=d)
        self.key = weight(rngs, d, n, spec.head_dim, fan=d)
        self.value = weight(rngs, d, n, v, fan=d)
        self.output, self.output_bias = weight(rngs, n, v, d, fan=n * v), zeros(d)
        if k:
            self.value_conv = weight(rngs, k, k, n, v, fan=k * k)
        if spec.side:
            self.position = zeros(2 * spec.side - 1, 2 * spec.side - 1, n)

    def __call__(self, x: Float[Array, "B S S D"], train: bool) -> Float[Array, "B S S D"]:
        y = layer_norm(x, self.norm_scale[...], self.norm_bias[...])
        y = y.reshape(x.shape[0], -1, x.shape[-1])
        q, k, v = (project(y, own[...]) for own in (self.query, self.key, self.value))
        if self.spec.value_kernel:
            taps = self.value_conv[...].reshape(*(self.spec.value_kernel,) * 2, 1, -1)
            maps = v.reshape(*x.shape[:3], -1)
            v = depthwise(maps, taps).reshape(v.shape)
        logits = wide_einsum("btnh,bsnh->bnts", q, k) / math.sqrt(self.spec.head_dim)
        if self.spec.side:
            logits = logits + self._bias()
        mixed = jnp.einsum("bnts,bsnv->btnv", jax.nn.softmax(logits, -1).astype(v.dtype), v)
        mixed = jax.nn.hard_swish(mixed).reshape(*y.shape[:2], -1)
        out = matmul(mixed, self.output[...].reshape(mixed.shape[-1], -1))
        return x + (out + self.output_bias[...]).reshape(x.shape)

    def _bias(self) -> Float[Array, "N T T"]:
        side = self.spec.side
        grid = jnp.arange(side)
        apart = grid[:, None] - grid + side - 1
        table = self.position[apart[:, None, :, None], apart[None, :, None, :]]
        return table.reshape(side * side, side * side, -1).transpose(2, 0, 1)


class FeedForward(nnx.Module):
    """Pre-norm, hard-swish, residual."""

    def __init__(self, spec: FeedForwardSpec, *, rngs: Rngs):
        d, hidden = spec.width, spec.hidden
        self.norm_scale, self.norm_bias = nnx.Param(jnp.ones(d)), zeros(d)
        self.up, self.up_bias = weight(rngs, d, hidden, fan=d), zeros(hidden)
        self.down, self.down_bias = weight(rngs, hidden, d, fan=hidden), zeros(d)

    def __call__(self, x: Float[Array, "*B D"], train: bool) -> Float[Array, "*B D"]:
        y = layer_norm(x, self.norm_scale[...], self.norm_bias[...])
        y = jax.nn.hard_swish(matmul(y, self.up[...]) + self.up_bias[...])
        return x + matmul(y, self.down[...]) + self.down_bias[...]


class Head(nnx.Module):
    """1x1 convolution with a layer norm, mean over pixels, a layer, classes."""

    def __init__(self, spec: HeadSpec, *, rngs: Rngs):
        self.spec = spec
        width = spec.width
        if spec.hidden:
            self.expand = weight(rngs, width, spec.hidden, fan=width)
            self.expand_bias = zeros(spec.hidden)
            self.norm_scale, self.norm_bias = nnx.Param(jnp.ones(spec.hidden)), zeros(spec.hidden)
            width = spec.hidden
        if spec.features:
            self.features = weight(rngs, width, spec.features, fan=width)
            self.features_bias = zeros(spec.features)
            width = spec.features
        self.classes = weight(rngs, width, spec.classes, fan=width)
        self.classes_bias = zeros(spec.classes)

    def __call__(self, x: Float[Array, "B S S D"], train: bool) -> Float[Array, "B K"]:
        if self.spec.hidden:
            y = matmul(x, self.expand[...]) + self.expand_bias[...]
            x = jax.nn.hard_swish(layer_norm(y, self.norm_scale[...], self.norm_bias[...]))
        y = x.mean((1, 2))
        if self.spec.features:
            y = jax.nn.hard_swish(matmul(y, self.features[...]) + self.features_bias[...])
        return matmul(y, self.classes[...]) + self.classes_bias[...]
