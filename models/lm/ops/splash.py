"""The splash attention kernel that comes with JAX, for causal rows and sliding windows on TPU.

Shape letters: B batch, T tokens, N query heads, K key-value heads, H key width, V value width.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# It pays from here on; its tables of blocks have to fit into scalar memory.
TOKENS = (512, 1 << 16)
# Blocks of 512 are fast, blocks of 128 waste little padding on short rows.
LONG_BLOCK, SHORT_BLOCK = 512, 128
# From here on padding to long blocks is little.
LONG_ROWS = 2048
# The sizes of its blocks, forward and backward.
BLOCKS = (
    "block_q",
    "block_kv",
    "block_kv_compute",
    "block_q_dkv",
    "block_kv_dkv",
    "block_kv_dkv_compute",
    "block_q_dq",
    "block_kv_dq",
)


def tiles(length: int, widths: tuple[int, int]) -> bool:
    """Whether the kernel is made for rows of this length and heads of these widths, and pays."""
    shortest, longest = TOKENS
    return shortest <= length <= longest and all(width % 64 == 0 for width in widths)


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    segments: Int[Array, "B T"] | None,
    *,
    window: int | None,
    scale: float,
    interpret: bool = False,
) -> Float[Array, "B T N V"]:
    """Causal attention within documents and, where there is one, a window; with gradients."""
    # Loading Pallas takes a second, which only its users wait for.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    rows = q.shape[1]
    multiple = LONG_BLOCK if rows >= LONG_ROWS else SHORT_BLOCK
    length = -(-rows // multiple) * multiple
    mask = splash.CausalMask((length, length))
    if window is not None:
        mask = splash.LocalMask((length, length), (window - 1, 0), 0)
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([mask] * q.shape[2]),
        block_sizes=splash.BlockSizes(**dict.fromkeys(BLOCKS, math.gcd(length, LONG_BLOCK))),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    # No real token sees what comes behind it, so padding needs no mask.
    heads_first = (_padded(x, length).swapaxes(1, 2) for x in (q * scale, k, v))
    ids = None
    if segments is not None:
        ids = splash.SegmentIds(*[_padded(segments, length)] * 2)
    return jax.vmap(kernel)(*heads_first, ids).swapaxes(1, 2)[:, :rows]


def _padded(x: Array, length: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1])) + ((0, 0),) * (x.ndim - 2))
