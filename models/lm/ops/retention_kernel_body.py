"""What gated retention's kernel does with one block of tokens; see `ops.retention_kernel`.

Queries and keys are rotated and outputs normalised here, where they are in fast memory anyway: on
their own these are slow passes over memory, in layouts that suit no matrix product.

What depends on tokens comes in a tile of R = 8 rows for each block: the sums of the log decays by
head, from the block's start, and for packed rows the two rows below. Turned around once for all
heads, the tile also serves where tokens go downwards.

Shape letters: L tokens of a block, K key width, V value width, R rows of a tile.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Bool, Float

from loomax.models.layers import rms_normalise, wide_einsum

ROWS = 8
# The token's document, and whether that is the document that the block before ended in.
DOCUMENTS, READS = 6, 7


class Form(NamedTuple):
    """What is done besides retention, and how much at once.

    Args:
        group: heads that a step of the grid treats.
        packed: rows hold several documents.
        turned: queries and keys are to be rotated by a table.
        scale: factor on the keys.
        epsilon: each head's outputs are divided by their root mean square, with this added to the
            mean square; None leaves them as they are.
    """

    group: int
    packed: bool
    turned: bool
    scale: float
    epsilon: float | None


def kernel(form: Form, *refs):
    """One block of tokens of `group` heads; the state waits in scratch for the next block."""
    *read, y_ref, last_ref, state_ref = refs
    q_ref, k_ref, v_ref, rows_ref, start_ref, *tables = read
    block = pl.program_id(2)

    @pl.when(block == 0)
    def _():
        state_ref[...] = start_ref[0]

    rows = rows_ref[0, 0, 0]
    columns = rows.T
    seen, edges = _masks(rows, columns, form.packed)
    turn = _turn(tables[0][0]) if form.turned else None
    for n in range(form.group):
        q, k, v = (_head(ref, n, form.group) for ref in (q_ref, k_ref, v_ref))
        if turn is not None:
            q, k = turn(q), turn(k)
        row, column, width = rows[n : n + 1], columns[:, n : n + 1], v.shape[1]
        decays = _decays(row, column, seen, edges, (math.log(form.scale), width))
        y, state = _block(q, k, v, state_ref[n], decays)
        y = y if form.epsilon is None else rms_normalise(y, form.epsilon)
        y_ref[0, :, n * width : (n + 1) * width] = y.astype(y_ref.dtype)
        state_ref[n] = state

    @pl.when(block == pl.num_programs(2) - 1)
    def _():
        last_ref[0] = state_ref[...]


def _head(ref, n: int, group: int) -> Array:
    width = ref.shape[2] // group
    return ref[0, :, n * width : (n + 1) * width]


def _turn(table: Float[Array, "L K"]):
    """The rotation of a head by cosines, then sines, of its pairs (i, i + K/2)."""
    half = table.shape[1] // 2
    first = jax.lax.broadcasted_iota(jnp.int32, table.shape, 1) < half
    other = pltpu.roll(table, half, 1)
    cos = jnp.where(first, table, other)
    sin = jnp.where(first, -other, table)

    def turn(x: Float[Array, "L K"]) -> Float[Array, "L K"]:
        wide = x.astype(jnp.float32)
        return (wide * cos + pltpu.roll(wide, half, 1) * sin).astype(x.dtype)

    return turn


def _masks(rows: Float[Array, "R L"], columns: Float[Array, "L R"], packed: bool):
    """Which token sees which, and what a document's end cuts off."""
    size = rows.shape[1]
    row, column = (jax.lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (1, 0))
    seen = column >= row
    if not packed:
        return seen, None
    seen &= columns[:, DOCUMENTS : DOCUMENTS + 1] == rows[DOCUMENTS : DOCUMENTS + 1]
    return seen, _edges(rows, columns)


class Decays(NamedTuple):
    """Factors of one block of one head."""

    within: Float[Array, "L L"]  # of a token's key and value for a query of its block
    reads: Float[Array, "L V"]  # of the entering state for a query
    left: Float[Array, "L V"]  # of a token's key and value in the leaving state
    kept: Float[Array, "1 1"]  # of the entering state in the leaving state


def _edges(rows: Float[Array, "R L"], columns: Float[Array, "L R"]) -> tuple[Array, Array, Array]:
    """0 or 1 for reads, left and kept, as in `ops.segments.Boundaries`."""
    last = rows[DOCUMENTS : DOCUMENTS + 1, -1:]
    stays = (columns[:, DOCUMENTS : DOCUMENTS + 1] == last).astype(jnp.float32)
    return columns[:, READS : READS + 1], stays, rows[READS : READS + 1, -1:]


def _decays(
    row: Float[Array, "1 L"],
    column: Float[Array, "L 1"],
    seen: Bool[Array, "L L"],
    edges: tuple[Array, Array, Array] | None,
    keys: tuple[float, int],
) -> Decays:
    """From the sums of the log decays, which come as a row and as a column.

    Args:
        keys: logarithm of the factor on keys, which costs nothing among the decays; values' width.
    """
    shift, width = keys
    total = row[:, -1:]
    within = jnp.exp(jnp.where(seen, column - (row - shift), -jnp.inf))
    # Spread before the exponentials: that moves each number between lanes once, not three times.
    wide = jnp.broadcast_to(column, (column.shape[0], width))
    outer = (jnp.exp(wide), jnp.exp((total + shift) - wide), jnp.exp(total))
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
