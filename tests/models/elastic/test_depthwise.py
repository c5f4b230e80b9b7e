"""The sum over taps is the convolution that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.models.elastic.depthwise import depthwise


def reference(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("side", [1, 7, 8])
def test_it_is_a_convolution_of_each_channel(stride, taps, side):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, side, side, 3))
    kernel = jax.random.normal(keys[1], (taps, taps, 1, 3))
    want = reference(x, kernel, stride)
    np.testing.assert_allclose(depthwise(x, kernel, stride), want, rtol=1e-5, atol=1e-5)


def test_its_gradient_is_the_convolutions():
    keys = jax.random.split(jax.random.key(1))
    args = jax.random.normal(keys[0], (2, 8, 8, 3)), jax.random.normal(keys[1], (3, 3, 1, 3))

    def slopes(function):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k, 2))), argnums=(0, 1))(*args)

    for got, want in zip(slopes(depthwise), slopes(reference), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
