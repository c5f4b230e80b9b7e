"""Masks by active size. A size known to be the whole axis masks nothing and costs nothing.

Inactive channels of what goes from operator to operator are exactly 0. All functions here take
such inputs, and give such outputs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from loomax.models.elastic.elastic_switch import keep_for_gradient

Size = int | Int[Array, ""]


def keep(x: Array, count: Size, axis: int = -1) -> Array:
    """x with 0 from `count` on along an axis."""
    if isinstance(count, int) and count == x.shape[axis]:
        return x
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return jnp.where(jnp.arange(x.shape[axis]).reshape(shape) < count, x, 0)


def keep_centre(kernel: Float[Array, "K K 1 C"], size: Size) -> Float[Array, "K K 1 C"]:
    """A kernel with 0 outside of the `size` x `size` taps in its middle."""
    full = kernel.shape[0]
    if isinstance(size, int) and size == full:
        return kernel
    inside = jnp.abs(2 * jnp.arange(full) - (full - 1)) < size
    return jnp.where((inside[:, None] & inside)[..., None, None], kernel, 0)


def fit(x: Array, count: int) -> Array:
    """x with its last axis cut or filled with 0 to `count`."""
    if x.shape[-1] >= count:
        return x[..., :count]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, count - x.shape[-1])])


def layer_norm(
    x: Float[Array, "*B D"], scale: Float[Array, " D"], bias: Float[Array, " D"], count: Size
) -> Float[Array, "*B D"]:
    """Layer normalisation over the active channels, epsilon 1e-6, in float32."""
    wide = x.astype(jnp.float32)
    mean = keep_for_gradient(wide.sum(-1, keepdims=True) / count)
    centred = keep(wide - mean, count)
    variance = keep_for_gradient(jnp.square(centred).sum(-1, keepdims=True) / count)
    out = centred * jax.lax.rsqrt(variance + 1e-6) * scale + bias
    return keep(out, count).astype(x.dtype)


def batch_norm(
    x: Float[Array, "B *S D"],
    scale: Float[Array, " D"],
    bias: Float[Array, " D"],
    count: Size,
    reference: int | None = None,
) -> Float[Array, "B *S D"]:
    """Batch normalisation with the batch's own statistics, epsilon 1e-5, in float32.

    A supernet keeps no running statistics: means over subnets fit none of them. A deployed
    network gets its own (`loomax.models.elastic.deploy.calibrate`).

    Args:
        reference: how many of the first images give the statistics; None takes all.
    """
    wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    mean = keep_for_gradient(wide[:reference].mean(axes))
    centred = wide - mean
    variance = keep_for_gradient(jnp.square(centred[:reference]).mean(axes))
    out = centred * (jax.lax.rsqrt(variance + 1e-5) * scale) + bias
    return keep(out, count).astype(x.dtype)
