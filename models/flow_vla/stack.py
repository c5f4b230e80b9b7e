"""Gemma-shaped decoder layers, stacked on axis 0: parameters and the pure steps of one layer.

Shape letters: L layers, B batch, S tokens, D width, N heads, K key-value heads, H head width,
F hidden width, C conditioning width.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree

from loomax.models.initialise import Rngs, normal
from loomax.models.layers import gelu, matmul, rms_normalise
from loomax.models.rope import rotate


@dataclass(frozen=True)
class StackShape:
    """Sizes of a stack; `cond` is the width of the adaRMS condition (0: plain RMSNorm)."""

    depth: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    cond: int = 0


class Norm(nnx.Module):
    """RMSNorm with scale stored as an offset from 1, or adaRMS (`kernel`, `bias`) if `cond`.

    The adaRMS map starts at zero: scale 1, shift 0 and gate 0, so each block starts as identity.
    """

    def __init__(self, lead: tuple[int, ...], width: int, cond: int, dtype: DTypeLike):
        if cond:
            self.kernel = nnx.Param(jnp.zeros((*lead, cond, 3 * width), dtype))
            self.bias = nnx.Param(jnp.zeros((*lead, 3 * width), dtype))
        else:
            self.scale = nnx.Param(jnp.zeros((*lead, width), dtype))


class Stack(nnx.Module):
    """All layers of the trunk or of the action expert."""

    def __init__(self, shape: StackShape, *, rngs: Rngs, dtype: DTypeLike = jnp.float32):
        s, lead = shape, (shape.depth,)

        def matrix(*dims: int, fan_in: int):
            return nnx.Param(normal(rngs, lead + dims, fan_in**-0.5, dtype))

        self.q = matrix(s.heads, s.width, s.head_dim, fan_in=s.width)
        self.kv = matrix(2, s.kv_heads, s.width, s.head_dim, fan_in=s.width)
        self.out = matrix(s.heads, s.head_dim, s.width, fan_in=s.heads * s.head_dim)
        self.gating = matrix(2, s.width, s.mlp, fan_in=s.width)
        self.linear = matrix(s.mlp, s.width, fan_in=s.mlp)
        self.pre_attention_norm = Norm(lead, s.width, s.cond, dtype)
        self.pre_ffw_norm = Norm(lead, s.width, s.cond, dtype)


def layers_of(module: nnx.Module) -> PyTree:
    """Parameters as a plain dict; those of a stack are ready for `lax.scan`."""
    return nnx.to_pure_dict(nnx.state(module))


def normalise(
    p: PyTree, x: Float[Array, "B S D"], cond: Float[Array, "B C"] | None, epsilon: float
) -> tuple[Float[Array, "B S D"], Float[Array, "B 1 D"] | float]:
    """The normalised tokens and the gate of the residual branch (1 without a condition)."""
    wide = rms_normalise(x, epsilon)
    if "scale" in p:
        return (wide * (1 + p["scale"].astype(jnp.float32))).astype(x.dtype), 1.0
    modulation = cond @ p["kernel"].astype(cond.dtype) + p["bias"].astype(cond.dtype)
    scale, shift, gate = jnp.split(modulation[:, None].astype(jnp.float32), 3, axis=-1)
    return (wide * (1 + scale) + shift).astype(x.dtype), gate.astype(x.dtype)


def project(x: Float[Array, "B S D"], kernel: Float[Array, "N D H"]) -> Float[Array, "B S N H"]:
    """A linear map into heads, as one matrix product."""
    heads, width, size = kernel.shape
    flat = matmul(x, kernel.swapaxes(0, 1).reshape(width, heads * size))
    return flat.reshape(*x.shape[:2], heads, size)


def queries_keys_values(
    p: PyTree,
    x: Float[Array, "B S D"],
    positions: Int[Array, "B S"],
    cond: Array | None,
    epsilon: float,
) -> tuple[Array, Array, Array, Array | float]:
    """Rotated queries [B,S,N,H] and keys [B,S,K,H], values, and the attention branch's gate."""
    y, gate = normalise(p["pre_attention_norm"], x, cond, epsilon)
    q, k, v = (project(y, w.astype(y.dtype)) for w in (p["q"], p["kv"][0], p["kv"][1]))
    q, k, v = checkpoint_name((rotate(q, positions), rotate(k, positions), v), "qkv")
    return q, k, v, gate


def finish_layer(
    p: PyTree,
    x: Float[Array, "B S D"],
    mixed: Float[Array, "B S N H"],
    gate: Array | float,
    cond: Array | None,
    epsilon: float,
) -> Float[Array, "B S D"]:
    """Adds the attention output and the GeGLU branch to the residual stream."""
    joined = checkpoint_name(mixed.reshape(*mixed.shape[:2], -1), "attn_out")
    out = p["out"].astype(x.dtype)
    x = x + matmul(joined, out.reshape(-1, out.shape[-1])) * gate
    y, gate = normalise(p["pre_ffw_norm"], x, cond, epsilon)
    opened, passed = (matmul(y, p["gating"][i].astype(y.dtype)) for i in (0, 1))
    passed = checkpoint_name(gelu(opened) * passed, "mlp_hidden")
    return x + matmul(passed, p["linear"].astype(y.dtype)) * gate
