"""Attention to keys and values in pages as one Pallas kernel for TPU, for a few queries of a row.

The grid walks over rows and blocks of pages. Tables say which pages to fetch (vLLM, arXiv
2309.06180), so no copy of a row is made, and what lies behind a row's last token is not read. The
softmax runs along (Milakov and Gimelshein, arXiv 1805.02867).

Queries of all heads meet keys of all heads in one product, and pairs of different heads are masked.
Few queries wait for memory anyway, and no head has to be cut out of a tile.

Shape letters: B rows, T queries of a row, N query heads, K key-value heads, H key width, V value
width, P pages, S tokens of a page, W pages of a row, C pages of a block, Q = T N, D = C S K.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from loomax.models.attention import MASKED
from loomax.models.layers import wide_einsum

LANES = 128
# Rows of a tile in memory. Tokens that fill tiles, or a power of 2 of which fills one, are a matrix
# [S K, H] as they lie; others would be copied.
ROWS = 8
# With more, masked pairs cost more than the two passes over memory that the kernel saves (an
# estimate: 15 operations a pair against the bandwidth of a v5e).
MOST_QUERIES = 256
# Tables lie in scalar memory, of which a v5e has 1 MiB.
TABLE_BYTES = 1 << 18
# Pages in flight, twice each because the next ones are fetched meanwhile; v5e has 16 MiB.
PAGE_BYTES = 4 << 20
# The scores of a block, in float32.
SCORE_BYTES = 1 << 20
# Each page of a block is an operand of its own.
MOST_PAGES = 16


class Form(NamedTuple):
    """Sizes that the kernel is made for.

    Args:
        heads, kv_heads: N and K. page: S. pages: C. scale: factor on the scores.
    """

    heads: int
    kv_heads: int
    page: int
    pages: int
    scale: float


def tiles(
    queries: int,
    table: tuple[int, int],
    page: tuple[int, int],
    widths: tuple[int, int],
    itemsize: int,
) -> bool:
    """Whether the kernel is made for these sizes, and pays.

    Args:
        queries: T N. table: [B, W]. page: [S, K]. widths: of keys and values. itemsize: of a number
            in a page, in bytes.
    """
    heads, rows = page[1], page[0] * page[1]
    as_they_lie = (heads % ROWS == 0 or ROWS % heads == 0) and rows % ROWS == 0
    fits = 2 * rows * sum(widths) * itemsize <= PAGE_BYTES and 4 * queries * rows <= SCORE_BYTES
    return (
        as_they_lie
        and fits
        and queries <= MOST_QUERIES
        and all(width % LANES == 0 for width in widths)
        and 4 * table[0] * table[1] <= TABLE_BYTES
    )


def attend(
    q: Float[Array, "B T N H"],
    keys: Float[Array, "P S K H"],
    values: Float[Array, "P S K V"],
    table: Int[Array, "B W"],
    start: Int[Array, " B"],
    count: Int[Array, " B"],
    *,
    scale: float,
    interpret: bool = False,
) -> Float[Array, "B T N V"]:
    """softmax(scale q k) v of the tokens at `start`, ..., to all up to each of them.

    Args:
        table: pages of each row.
        count: real queries of each row; what comes of others means nothing.
        interpret: run in XLA what the kernel would do; for tests, of any size.
    """
    batch, length, heads, _ = q.shape
    total, page, kv_heads, _ = keys.shape
    row_bytes = (keys.shape[-1] + values.shape[-1]) * keys.dtype.itemsize
    pages = pages_together(length * heads, table.shape[1], page * kv_heads, row_bytes)
    form = Form(heads, kv_heads, page, pages, scale)
    last = jnp.clip((start + jnp.maximum(count, 1) - 1) // page, 0, table.shape[1] - 1)
    out = _launch(
        form,
        q.reshape(batch, length * heads, -1),
        keys.reshape(total, page * kv_heads, -1),
        values.reshape(total, page * kv_heads, -1),
        (jnp.clip(table, 0, total - 1).reshape(-1), start, last),
        interpret,
    )
    return out.reshape(batch, length, heads, -1)


def pages_together(queries: int, width: int, rows: int, row_bytes: int) -> int:
    """Pages of a block: as many as fit into fast memory, a power of 2.

    Args:
        queries: T N. width: W. rows: S K. row_bytes: of one key and its value.
    """
    fitting = (PAGE_BYTES // (2 * rows * row_bytes), SCORE_BYTES // (4 * queries * rows))
    return 1 << max(min(MOST_PAGES, width, *fitting), 1).bit_length() - 1


def _launch(
    form: Form,
    q: Float[Array, "B Q H"],
    keys: Float[Array, "P SK H"],
    values: Float[Array, "P SK V"],
    scalars: tuple[Int[Array, " BW"], Int[Array, " B"], Int[Array, " B"]],
    interpret: bool,
) -> Float[Array, "B Q V"]:
    batch, queries, width = q.shape
    rows, value = keys.shape[1], values.shape[2]
    per_row = scalars[0].shape[0] // batch

    def pages(columns: int) -> list[pl.BlockSpec]:
        return [
            pl.BlockSpec((1, rows, columns), partial(_page, form.pages, per_row, index))
            for index in range(form.pages)
        ]

    def row(columns: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, queries, columns), lambda b, c, *_: (b, 0, 0))

    tops, sums = pltpu.VMEM((queries, 1), jnp.float32), pltpu.VMEM((queries, value), jnp.float32)
    return pl.pallas_call(
        partial(kernel, form),
        out_shape=jax.ShapeDtypeStruct((batch, queries, value), values.dtype),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(batch, pl.cdiv(per_row, form.pages)),
            in_specs=[row(width), *pages(width), *pages(value)],
            out_specs=row(value),
            scratch_shapes=[tops, tops, sums],
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=cost(form, batch, per_row, queries, (width, value), keys.dtype.itemsize),
        interpret=interpret,
        name="paged_attention",
    )(*scalars, q, *[keys] * form.pages, *[values] * form.pages)


def _page(together: int, per_row: int, index: int, b, c, table, start, last):
    """The page that is number `index` of a block; from the last block on it stays the same one."""
    del start
    block = jnp.minimum(c, jax.lax.div(last[b], together))
    return table[b * per_row + jnp.minimum(block * together + index, last[b])], 0, 0


def kernel(form: Form, *refs):
    """One block of pages of one row; sums wait in scratch for the next block."""
    _, start_ref, last_ref, q_ref, *pages, out_ref, top_ref, mass_ref, sum_ref = refs
    row, block = pl.program_id(0), pl.program_id(1)

    @pl.when(block == 0)
    def _():
        top_ref[...] = jnp.full(top_ref.shape, MASKED, jnp.float32)
        mass_ref[...] = jnp.zeros(mass_ref.shape, jnp.float32)
        sum_ref[...] = jnp.zeros(sum_ref.shape, jnp.float32)

    @pl.when(block * form.pages <= last_ref[row])
    def _():
        keys, values = (
            jnp.concatenate([ref[0] for ref in part], axis=0)
            for part in (pages[: form.pages], pages[form.pages :])
        )
        scores = form.scale * wide_einsum("qh,dh->qd", q_ref[0], keys)
        seen = _seen(form, scores.shape, start_ref[row], block * form.pages * form.page)
        scores = jnp.where(seen, scores, MASKED)
        top = jnp.maximum(top_ref[...], scores.max(axis=-1, keepdims=True))
        weights, shrink = jnp.exp(scores - top), jnp.exp(top_ref[...] - top)
        more = wide_einsum("qd,dv->qv", weights.astype(values.dtype), values)
        mass_ref[...] = mass_ref[...] * shrink + weights.sum(axis=-1, keepdims=True)
        sum_ref[...] = sum_ref[...] * shrink + more
        top_ref[...] = top

    @pl.when(block == pl.num_programs(1) - 1)
    def _():
        # The first key is seen by every query, so no mass is 0.
        out_ref[0] = (sum_ref[...] / mass_ref[...]).astype(out_ref.dtype)


def _seen(form: Form, shape: tuple[int, int], start: Array, first: Array) -> Array:
    """Which query sees which key: of its head, and no later token's.

    Args:
        shape: [Q, D]. start: position of the first query. first: that of the first key.
    """
    query = jax.lax.broadcasted_iota(jnp.int32, (shape[0], 1), 0)
    key = jax.lax.broadcasted_iota(jnp.int32, (1, shape[1]), 1)
    heads, kv_heads = form.heads, form.kv_heads
    head = jax.lax.div(jax.lax.rem(query, heads), heads // kv_heads)
    at, other = start + jax.lax.div(query, heads), first + jax.lax.div(key, kv_heads)
    return (head == jax.lax.rem(key, kv_heads)) & (other <= at)


def cost(
    form: Form, batch: int, pages: int, queries: int, widths: tuple[int, int], itemsize: int
) -> pl.CostEstimate:
    """Of rows that fill their tables of so many pages."""
    keys = pages * form.page * form.kv_heads
    numbers = (keys + queries) * sum(widths)
    return pl.CostEstimate(
        flops=2 * batch * queries * keys * sum(widths),
        transcendentals=batch * queries * keys,
        bytes_accessed=batch * numbers * itemsize,
    )
