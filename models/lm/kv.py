"""Stored keys and values: slot s of a row holds the token at position s.

The slots of a row lie together (`KV`) or in pages (`PagedKV`).

Shape letters: B batch, S slots, T tokens, K key-value heads, H key width, V value width, P pages,
W pages of a row.
"""

from typing import NamedTuple, no_type_check

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


@struct.dataclass
@no_type_check  # the same fields also hold shardings, or whole stacks of layers
class KV:
    """Keys [B, S, K, H] and values [B, S, K, V]; int8 ones have a scale per token and head."""

    keys: Array
    values: Array
    key_scale: Float[Array, "B S K"] | None = None
    value_scale: Float[Array, "B S K"] | None = None

    @property
    def slots(self) -> int:
        """Tokens that there is room for."""
        return self.keys.shape[-3]


@struct.dataclass
@no_type_check
class PagedKV(KV):
    """Pages [P, S, K, H] that rows share: page i of a row's table holds its tokens from i S on.

    Args:
        table: pages of each row; P or more stands for no page: what is written there is dropped.
    """

    table: Int[Array, "B W"] | None = None

    @property
    def slots(self) -> int:
        """Tokens of a row that there is room for."""
        return self.table.shape[-1] * self.keys.shape[-3]


def gathered(paged: PagedKV) -> KV:
    """Every row's keys and values side by side, [B, W S, K, H]."""

    def rows(x):
        if x is None:
            return None
        found = jnp.take(x, paged.table, axis=0, mode="clip")
        return found.reshape(found.shape[0], -1, *found.shape[3:])

    return KV(*map(rows, (paged.keys, paged.values, paged.key_scale, paged.value_scale)))


class Quantised(NamedTuple):
    """round(x / scale) in -127..127, with a scale per token and head."""

    codes: Array
    scale: Float[Array, "B T K"]


def quantise(x: Float[Array, "B T K H"]) -> Quantised:
    """Symmetric int8 of each token's head."""
    wide = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(wide).max(-1), 1e-8) / 127
    return Quantised(jnp.round(wide / scale[..., None]).astype(jnp.int8), scale)


def empty(
    batch: int, slots: int, heads: int, widths: tuple[int, int], dtype: DTypeLike, bits: int = 16
) -> KV:
    """Room for `slots` tokens with keys and values of the given widths."""
    stored = jnp.int8 if bits == 8 else dtype
    keys, values = (jnp.zeros((batch, slots, heads, width), stored) for width in widths)
    if bits != 8:
        return KV(keys, values)
    scale = jnp.zeros((batch, slots, heads), jnp.float32)
    return KV(keys, values, scale, scale)


def write(
    kv: KV,
    keys: Float[Array, "B T K H"],
    values: Float[Array, "B T K V"],
    start: Int[Array, " B"],
    count: Int[Array, " B"],
) -> KV:
    """Stores the first `count` tokens of a block behind `start` earlier ones.

    What would lie beyond the last slot is dropped.
    """
    index = jnp.arange(keys.shape[1], dtype=start.dtype)
    slot = jnp.where(index < count[:, None], start[:, None] + index, kv.slots)

    def put(old, new):
        if isinstance(kv, PagedKV):
            pages, size = old.shape[:2]
            page = jnp.take_along_axis(
                kv.table, slot // size, axis=1, mode="fill", fill_value=pages
            )
            return old.at[page, slot % size].set(new.astype(old.dtype), mode="drop")
        rows = jax.vmap(lambda o, s, n: o.at[s].set(n, mode="drop"))
        return rows(old, slot, new.astype(old.dtype))

    if kv.key_scale is None:
        return kv.replace(keys=put(kv.keys, keys), values=put(kv.values, values))
    k, v = quantise(keys), quantise(values)
    return kv.replace(
        keys=put(kv.keys, k.codes),
        values=put(kv.values, v.codes),
        key_scale=put(kv.key_scale, k.scale),
        value_scale=put(kv.value_scale, v.scale),
    )


def read(kv: KV, dtype: DTypeLike) -> tuple[Float[Array, "B S K H"], Float[Array, "B S K V"]]:
    """Keys and values in a dtype to compute with."""

    def one(x, scale):
        if scale is None:
            return x.astype(dtype)
        return (x.astype(jnp.float32) * scale[..., None]).astype(dtype)

    return one(kv.keys, kv.key_scale), one(kv.values, kv.value_scale)
