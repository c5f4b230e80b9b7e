"""A convolution of each channel by itself.

Shape letters: B batch, S side before, R side after, P padded side, C channels, K side of the
kernel (in `patches`: values of a patch).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from loomax.runtime.compile import target_platform


def depthwise(
    x: Float[Array, "B S S C"], kernel: Float[Array, "K K 1 C"], stride: int = 1
) -> Float[Array, "B R R C"]:
    """Keeps ceil(S / stride) pixels a side.

    On CPU it is a sum over the kernel's taps, with its gradient written out. For 16 images of
    16 x 16 pixels, 128 channels and 5 x 5 taps XLA:CPU takes 42 ms for the convolution and 149 ms
    for its gradient (more than 2 s inside a conditional); this takes 2 and 10 ms, in both.
    """
    if target_platform() == "cpu":
        return _sum_of_taps(x, kernel, stride)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def sum_windows(x: Float[Array, "B S S C"], side: int) -> Float[Array, "B R R C"]:
    """Sums of side x side pixels, ceil(S / side) a side; those at the border have fewer."""
    if target_platform() == "cpu":
        return _sum_of_taps(x, jnp.ones((side, side, 1, x.shape[-1]), x.dtype), side)
    window = (1, side, side, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "SAME")


def patches(x: Float[Array, "B S S C"], taps: int, stride: int) -> Float[Array, "B R R K"]:
    """The pixels that a kernel of taps x taps sees, side by side: K = taps * taps * C."""
    parts = _shifted(_padded(x, taps, stride), taps, -(-x.shape[1] // stride), stride)
    return jnp.concatenate(parts, axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _sum_of_taps(x: Array, kernel: Array, stride: int) -> Array:
    taps = kernel.shape[0]
    parts = _shifted(_padded(x, taps, stride), taps, -(-x.shape[1] // stride), stride)
    return _weighted(parts, kernel)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _sum_of_taps(x, kernel, stride), (x, kernel)


def _backward(stride: int, residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    taps, side, count = kernel.shape[0], x.shape[1], g.shape[1]
    # Towards x: a sum of taps too, of the turned kernel over g with zeros between its pixels.
    low = taps - 1 - _around(side, taps, stride)[0]
    high = side + taps - 1 - ((count - 1) * stride + 1) - low
    edges = [(0, 0, 0), (low, high, stride - 1), (low, high, stride - 1), (0, 0, 0)]
    spread = jax.lax.pad(g, jnp.zeros((), g.dtype), edges)
    dx = _weighted(_shifted(spread, taps, side, 1), kernel[::-1, ::-1])
    # Towards the kernel: one reduction with a result for each tap. As many reductions take
    # several times as long, to compile too.
    parts = _shifted(_padded(x, taps, stride), taps, count, stride)
    products = tuple((part * g).astype(jnp.float32) for part in parts)
    zeros = (jnp.zeros((), jnp.float32),) * len(products)
    sums = jax.lax.reduce(products, zeros, _add, (0, 1, 2))
    return dx, jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


_sum_of_taps.defvjp(_forward, _backward)


def _add(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _around(side: int, taps: int, stride: int) -> tuple[int, int]:
    """Pixels of padding before and behind."""
    missing = max((-(-side // stride) - 1) * stride + taps - side, 0)
    return missing // 2, missing - missing // 2


def _padded(x: Array, taps: int, stride: int) -> Float[Array, "B P P C"]:
    around = _around(x.shape[1], taps, stride)
    return jnp.pad(x, ((0, 0), around, around, (0, 0)))


def _shifted(padded: Array, taps: int, count: int, stride: int) -> list[Array]:
    """What each tap sees, row by row."""
    end = (count - 1) * stride + 1
    return [
        padded[:, i : i + end : stride, j : j + end : stride]
        for i in range(taps)
        for j in range(taps)
    ]


def _weighted(parts: list[Array], kernel: Array) -> Array:
    weights = kernel.reshape(len(parts), -1)
    return sum(part * weights[at] for at, part in enumerate(parts))
