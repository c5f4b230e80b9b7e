"""What gated retention's kernel does with one block of tokens; see `ops.retention_kernel`.

What depends on tokens comes in a tile of R = 8 rows for each block: the sums of the log decays by
head, from the block's start, and for packed rows the two rows below. Turned around once for all
heads, the tile also serves where tokens go downwards.

Shape letters: L tokens of a block, K key width, V value width, R rows of a tile.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from loomax.models.layers import wide_einsum

ROWS = 8
# The token's document, and whether that is the document that the block before ended in.
DOCUMENTS, READS = 6, 7


def kernel(group, packed, q_ref, k_ref, v_ref, rows_ref, start_ref, y_ref, last_ref, state_ref):
    """One block of tokens of `group` heads; the state waits in `state_ref` for the next block.

    Args:
        packed: rows hold several documents.
    """
    block = pl.program_id(2)

    @pl.when(block == 0)
    def _():
        state_ref[...] = start_ref[0]

    rows = rows_ref[0, 0, 0]
    columns = rows.T
    size = rows.shape[1]
    row, column = (jax.lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (1, 0))
    seen, edges = column >= row, None
    if packed:
        seen &= columns[:, DOCUMENTS : DOCUMENTS + 1] == rows[DOCUMENTS : DOCUMENTS + 1]
        edges = _edges(rows, columns)
    for n in range(group):
        q, k, v = (_head(ref, n, group) for ref in (q_ref, k_ref, v_ref))
        decays = _decays(rows[n : n + 1], columns[:, n : n + 1], seen, edges)
        y, state = _block(q, k, v, state_ref[n], decays)
        width = v.shape[1]
        y_ref[0, :, n * width : (n + 1) * width] = y
        state_ref[n] = state

    @pl.when(block == pl.num_programs(2) - 1)
    def _():
        last_ref[0] = state_ref[...]


def _head(ref, n: int, group: int) -> Array:
    width = ref.shape[2] // group
    return ref[0, :, n * width : (n + 1) * width]


class Decays(NamedTuple):
    """Factors of one block of one head."""

    within: Float[Array, "L L"]  # of a token's key and value for a query of its block
    reads: Float[Array, "L 1"]  # of the entering state for a query
    left: Float[Array, "L 1"]  # of a token's key and value in the leaving state
    kept: Float[Array, "1 1"]  # of the entering state in the leaving state


def _edges(rows: Float[Array, "R L"], columns: Float[Array, "L R"]) -> tuple[Array, Array, Array]:
    """0 or 1 for reads, left and kept, as in `ops.segments.Boundaries`."""
    last = rows[DOCUMENTS : DOCUMENTS + 1, -1:]
    stays = (columns[:, DOCUMENTS : DOCUMENTS + 1] == last).astype(jnp.float32)
    return columns[:, READS : READS + 1], stays, rows[READS : READS + 1, -1:]


def _decays(row: Float[Array, "1 L"], column: Float[Array, "L 1"], seen, edges) -> Decays:
    """From the sums of the log decays, which come as a row and as a column."""
    total = row[:, -1:]
    within = jnp.exp(jnp.where(seen, column - row, -jnp.inf))
    outer = (jnp.exp(column), jnp.exp(total - column), jnp.exp(total))
    if edges is not None:
        outer = tuple(factor * edge for factor, edge in zip(outer, edges, strict=True))
    return Decays(within, *outer)


def _block(
    q: Float[Array, "L K"],
    k: Float[Array, "L K"],
    v: Float[Array, "L V"],
    state: Float[Array, "K V"],
    decays: Decays,
) -> tuple[Float[Array, "L V"], Float[Array, "K V"]]:
    """Outputs of a block and the state that leaves it."""
    weights = (wide_einsum("lk,mk->lm", q, k) * decays.within).astype(v.dtype)
    within = wide_einsum("lm,mv->lv", weights, v)
    across = wide_einsum("lk,kv->lv", q, state.astype(q.dtype)) * decays.reads
    added = wide_einsum("lk,lv->kv", k, (v * decays.left).astype(v.dtype))
    return within + across, decays.kept * state + added
