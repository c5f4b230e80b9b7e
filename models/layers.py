"""Small layers: dense maps, norms, multi-layer perceptrons and the sine-cosine embedding.

Modules only own parameters; what they compute is pure. Shape letters: I inputs, O outputs,
D width, C conditioning width.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from loomax.models.initialise import Rngs, normal
from loomax.runtime.compile import target_platform


def matmul(x: Float[Array, "*B I"], kernel: Float[Array, "I O"]) -> Float[Array, "*B O"]:
    """x @ kernel over flattened leading axes.

    XLA:CPU runs the kernel's gradient several times slower if more than one axis is contracted.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def wide_einsum(spec: str, x: Array, y: Array) -> Array:
    """einsum of two arrays with float32 sums and result.

    XLA:CPU has no kernel for a product of bfloat16 with a float32 result, so there it widens first.
    """
    if target_platform() == "cpu":
        return jnp.einsum(spec, x.astype(jnp.float32), y.astype(jnp.float32))
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


class Dense(nnx.Module):
    """A linear map of the last axis, `kernel` [I, O] ~ N(0, std^2 or 1 / I) and `bias` [O] = 0."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rngs: Rngs,
        std: float | None = None,
        dtype: DTypeLike = jnp.float32,
    ):
        std = inputs**-0.5 if std is None else std
        self.kernel = nnx.Param(normal(rngs, (inputs, outputs), std, dtype))
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype))

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        return matmul(x, self.kernel[...].astype(x.dtype)) + self.bias[...].astype(x.dtype)


class MLP(nnx.Module):
    """Dense layers of the given sizes with an activation between them, none at the end."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rngs: Rngs,
        activation: Callable[[Array], Array] = jax.nn.relu,
        last_std: float | None = None,
    ):
        self.activation = activation
        stds = [None] * (len(sizes) - 2) + [last_std]
        self.layers = nnx.List(
            Dense(i, o, rngs=rngs, std=std)
            for i, o, std in zip(sizes[:-1], sizes[1:], stds, strict=True)
        )

    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def gelu(x: Array) -> Array:
    """The tanh form of GELU, as in Gemma and SigLIP."""
    return jax.nn.gelu(x, approximate=True)


def rms_normalise(x: Float[Array, "*B D"], epsilon: float) -> Float[Array, "*B D"]:
    """x / sqrt(mean(x^2) + epsilon), computed in float32 whatever the dtype of `x`."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    return wide * scale


def layer_norm(
    x: Float[Array, "*B D"], scale: Float[Array, " D"], bias: Float[Array, " D"]
) -> Float[Array, "*B D"]:
    """Layer normalisation with epsilon 1e-6, computed in float32."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    out = centred * jax.lax.rsqrt(variance + 1e-6) * scale + bias
    return out.astype(x.dtype)


def sine_cosine(
    t: Float[Array, " B"], width: int, shortest: float = 4e-3, longest: float = 4.0
) -> Float[Array, "B D"]:
    """Sines then cosines of `t` at `width / 2` periods, geometric from `shortest` to `longest`."""
    if width % 2:
        raise ValueError(f"a sine-cosine embedding needs an even width, not {width}")
    periods = shortest * (longest / shortest) ** jnp.linspace(0.0, 1.0, width // 2)
    angle = 2 * jnp.pi * t.astype(jnp.float32)[:, None] / periods
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
