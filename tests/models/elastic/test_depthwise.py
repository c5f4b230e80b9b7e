"""The sum over taps and its gradients against loops in NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.elastic.depthwise import depthwise

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def reference(x, kernel, g, stride):
    """The convolution, and the gradients of its product with g, pixel by pixel."""
    taps, side, count = kernel.shape[0], x.shape[1], -(-x.shape[1] // stride)
    before = max((count - 1) * stride + taps - side, 0) // 2
    y, dx, dk = np.zeros(g.shape), np.zeros(x.shape), np.zeros(kernel.shape)
    for r, s, i, j in np.ndindex(count, count, taps, taps):
        row, column = r * stride + i - before, s * stride + j - before
        if 0 <= row < side and 0 <= column < side:
            y[:, r, s] += x[:, row, column] * kernel[i, j, 0]
            dx[:, row, column] += g[:, r, s] * kernel[i, j, 0]
            dk[i, j, 0] += (g[:, r, s] * x[:, row, column]).sum(0)
    return y, dx, dk


@pytest.mark.parametrize(
    ("taps", "stride", "side"),
    [(1, 1, 4), (1, 2, 5), (3, 1, 5), (3, 2, 7), (3, 2, 8), (5, 1, 7), (5, 2, 8), (5, 2, 1)],
)
def test_it_is_a_convolution_of_each_channel(taps, stride, side):
    rng, count = np.random.default_rng(0), -(-side // stride)
    shapes = (2, side, side, 3), (taps, taps, 1, 3), (2, count, count, 3)
    given = [rng.normal(size=shape) for shape in shapes]

    def both(x, kernel, g):
        y, back = jax.vjp(lambda x, kernel: depthwise(x, kernel, stride), x, kernel)
        return y, *back(g)

    run = jax.jit(both, compiler_options=QUICK)
    ours = run(*(jnp.asarray(array, jnp.float32) for array in given))
    for got, want in zip(ours, reference(*given, stride), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
