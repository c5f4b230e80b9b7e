"""The SigLIP So400m/14 vision transformer with a linear head, layers stacked and scanned.

Shapes of the parameters follow openpi's checkpoint (see loomax.models.flow_vla.openpi).
Shape letters: B batch, S image side, P patches, D width, N heads, H head width, F hidden width,
L layers, W output width.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from loomax.memory.schedule.policy import remat_as
from loomax.models.attention import attend
from loomax.models.initialise import Rngs, normal
from loomax.models.layers import Dense, gelu, layer_norm
from loomax.runtime.mesh import constrain


@dataclass(frozen=True)
class SiglipShape:
    """Sizes of the tower; `out` is the width of the language trunk."""

    size: int
    patch: int
    width: int
    depth: int
    mlp: int
    heads: int
    out: int

    def __post_init__(self):
        if self.size % self.patch:
            raise ValueError(f"image side {self.size} is no multiple of the patch {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.width}")

    @property
    def tokens(self) -> int:
        return (self.size // self.patch) ** 2


class StackedDense(nnx.Module):
    """`depth` linear maps, stacked on axis 0; `fan_in` sets the initial scale."""

    def __init__(self, kernel: tuple, bias: tuple, fan_in: int, *, rngs: Rngs, dtype):
        self.kernel = nnx.Param(normal(rngs, kernel, fan_in**-0.5, dtype))
        self.bias = nnx.Param(jnp.zeros(bias, dtype))


class StackedNorm(nnx.Module):
    """Layer-norm parameters, [..., D]."""

    def __init__(self, shape: tuple, dtype):
        self.scale = nnx.Param(jnp.ones(shape, dtype))
        self.bias = nnx.Param(jnp.zeros(shape, dtype))


class EncoderStack(nnx.Module):
    """All transformer blocks of the tower."""

    def __init__(self, s: SiglipShape, *, rngs: Rngs, dtype):
        n, d, h, depth = s.heads, s.width, s.width // s.heads, s.depth

        def dense(kernel, bias, fan_in):
            return StackedDense((depth, *kernel), (depth, *bias), fan_in, rngs=rngs, dtype=dtype)

        self.norm_0 = StackedNorm((depth, d), dtype)
        self.norm_1 = StackedNorm((depth, d), dtype)
        self.query = dense((d, n, h), (n, h), d)
        self.key = dense((d, n, h), (n, h), d)
        self.value = dense((d, n, h), (n, h), d)
        self.out = dense((n, h, d), (d,), d)
        self.dense_0 = dense((d, s.mlp), (s.mlp,), d)
        self.dense_1 = dense((s.mlp, d), (d,), s.mlp)


class Siglip(nnx.Module):
    """Parameters of the tower."""

    def __init__(self, shape: SiglipShape, *, rngs: Rngs, dtype: DTypeLike = jnp.float32):
        s = shape
        self.shape = shape
        fan_in = s.patch**2 * 3
        kernel = (s.patch, s.patch, 3, s.width)
        self.embedding = StackedDense(kernel, (s.width,), fan_in, rngs=rngs, dtype=dtype)
        self.pos_embedding = nnx.Param(normal(rngs, (1, s.tokens, s.width), s.width**-0.5, dtype))
        self.blocks = EncoderStack(s, rngs=rngs, dtype=dtype)
        self.norm = StackedNorm((s.width,), dtype)
        self.head = Dense(s.width, s.out, rngs=rngs, dtype=dtype)

    def __call__(
        self,
        image: Float[Array, "B S S 3"],
        dtype: DTypeLike = jnp.float32,
        remat: str = "none",
    ) -> Float[Array, "B P W"]:
        """Tokens of images in [-1, 1].

        Args:
            dtype: of the blocks and the head; patches are embedded in float32, as in openpi.
            remat: policy of each block (`loomax.memory.schedule.policy`).
        """
        x = embed_patches(self, image.astype(jnp.float32)).astype(dtype)
        layers = nnx.to_pure_dict(nnx.state(self.blocks))
        body = remat_as(remat, encoder_block)
        x, _ = jax.lax.scan(lambda x, p: (body(x, p), None), x, layers)
        x = layer_norm(x, self.norm.scale[...], self.norm.bias[...])
        return self.head(x)


def embed_patches(tower: Siglip, image: Float[Array, "B S S 3"]) -> Float[Array, "B P D"]:
    """Non-overlapping patches through one matrix product, plus learned positions."""
    batch, side = image.shape[0], tower.shape.size // tower.shape.patch
    patch = tower.shape.patch
    cut = image.reshape(batch, side, patch, side, patch, 3).swapaxes(2, 3)
    cut = cut.reshape(batch, side * side, -1)
    kernel = tower.embedding.kernel[...].astype(image.dtype)
    x = cut @ kernel.reshape(-1, kernel.shape[-1]) + tower.embedding.bias[...].astype(image.dtype)
    return x + tower.pos_embedding[...].astype(image.dtype)


def encoder_block(x: Float[Array, "B P D"], p: PyTree) -> Float[Array, "B P D"]:
    """A pre-norm block with full attention; `p` is one layer's slice of the stack."""

    def dense(x, name, pattern):
        kernel, bias = p[name]["kernel"], p[name]["bias"]
        return jnp.einsum(pattern, x, kernel.astype(x.dtype)) + bias.astype(x.dtype)

    x = constrain(x, "batch", "length", None)
    y = layer_norm(x, p["norm_0"]["scale"], p["norm_0"]["bias"])
    q, k, v = (dense(y, name, "bpd,dnh->bpnh") for name in ("query", "key", "value"))
    q, k, v = checkpoint_name((q, k, v), "qkv")
    everything = jnp.ones((x.shape[0], x.shape[1], x.shape[1]), bool)
    mixed = checkpoint_name(attend(q, k, v, everything), "attn_out")
    x = x + dense(mixed, "out", "bpnh,nhd->bpd")
    y = layer_norm(x, p["norm_1"]["scale"], p["norm_1"]["bias"])
    y = checkpoint_name(gelu(dense(y, "dense_0", "bpd,df->bpf")), "mlp_hidden")
    return x + dense(y, "dense_1", "bpf,fd->bpd")
