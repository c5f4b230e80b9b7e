"""Gated retention as one Pallas kernel for TPU (YOCO, arXiv 2405.05254, section 3.1).

The grid walks over rows, groups of heads and blocks of tokens. Blocks of one head follow each
other, so the state stays in fast memory from a row's first token to its last, and the scores of a
block never leave it: only q, k, v and y travel.

Heads lie side by side in the last axis, as the projections make them, so that nothing has to be
transposed for the kernel: a head is a slice of 128 lanes or a multiple.

Shape letters: B batch, T tokens, N heads, K key width, V value width, C blocks, L tokens of a
block, G heads of a group, H = N / G groups, R = 8 rows of a tile.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from loomax.models.lm.ops import retention
from loomax.models.lm.ops.blocks import segments_into_blocks
from loomax.models.lm.ops.retention_kernel_body import DOCUMENTS, ROWS, Form, kernel
from loomax.models.lm.ops.segments import boundaries

LANES = 128
# The decays of a block are [L, L] in float32; four of these must fit into fast memory.
LONGEST_BLOCK = 256
# Blocks in flight, twice each because the next ones are fetched meanwhile; v5e has 16 MiB.
BLOCK_BYTES = 6 * 2**20

Outputs = tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]


def tiles(length: int, widths: tuple[int, int], chunk: int) -> bool:
    """Whether the kernel is made for rows of this length and heads of these widths."""
    sizes = (*widths, min(chunk, LONGEST_BLOCK))
    return length >= LANES and all(size % LANES == 0 for size in sizes) and max(widths) <= 512


def chunkwise(
    q: Float[Array, "B T N K"],
    k: Float[Array, "B T N K"],
    v: Float[Array, "B T N V"],
    log_decay: Float[Array, "B T N"],
    state: Float[Array, "B N K V"] | None = None,
    segments: Int[Array, "B T"] | None = None,
    table: Float[Array, "B T K"] | None = None,
    *,
    chunk: int,
    scale: float = 1.0,
    epsilon: float | None = None,
    interpret: bool = False,
) -> Outputs:
    """What `retention.prepared` computes; its gradients are that one's too.

    Args:
        chunk: tokens of a block, at most; blocks longer than 256 are cut.
        table: cosines, then sines, of `turns`; scale, epsilon: see `retention.prepared`.
        interpret: run in XLA what the kernel would do; for tests, of any size.

    Raises:
        ValueError: sizes that do not tile, see `tiles`; a factor of 0 or less.
    """
    if scale <= 0:
        raise ValueError(f"scale is {scale}; the factor on the keys must be above 0")
    batch, length, heads, width = k.shape
    widths = (width, v.shape[-1])
    if not interpret and not tiles(length, widths, chunk):
        raise ValueError(
            f"{length} tokens, heads of {widths} and chunk {chunk} do not tile: the kernel takes "
            f"{LANES} tokens or more, widths of {LANES} times 1 to 4, and a chunk of {LANES} or "
            f"at least {LONGEST_BLOCK}; use ops.retention.chunkwise"
        )
    if state is None:
        state = jnp.zeros((batch, heads, *widths), jnp.float32)
    how = How(min(chunk, LONGEST_BLOCK), scale, epsilon, interpret)
    return _differentiable(how, q, k, v, log_decay, state, segments, table)


class How(NamedTuple):
    """What is known before any array; see `chunkwise`."""

    size: int
    scale: float
    epsilon: float | None
    interpret: bool


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _differentiable(how: How, *inputs) -> Outputs:
    return _launch(how, *inputs)


def _forward(how, *inputs):
    return _launch(how, *inputs), inputs


def _backward(how, inputs, grads):
    *arrays, segments, table = inputs
    form = partial(
        retention.prepared,
        segments=segments,
        turns=None if table is None else tuple(jnp.split(table, 2, axis=-1)),
        chunk=how.size,
        scale=how.scale,
        epsilon=how.epsilon,
    )
    _, pull = jax.vjp(form, *arrays)
    # Positions are whole numbers: nothing learns through the table.
    return *pull(grads), None, None if table is None else jnp.zeros_like(table)


_differentiable.defvjp(_forward, _backward)


def _launch(how: How, q, k, v, log_decay, state, segments, table) -> Outputs:
    batch, length, heads, width = k.shape
    value, size = v.shape[-1], how.size
    dtype = jnp.float32 if how.epsilon is None else v.dtype
    itemsizes = (v.dtype.itemsize, jnp.dtype(dtype).itemsize)
    group = heads_together(heads, size, (width, value), itemsizes)
    blocks = -(-length // size)
    # What is padded has k = 0 and no decay, so it leaves the state as it was.
    pad = blocks * size - length
    flat = [x.reshape(batch, length, -1) for x in (q, k, v)]
    flat = [jnp.pad(x, ((0, 0), (0, pad), (0, 0))) for x in flat]

    def tokens(columns):
        return pl.BlockSpec((1, size, group * columns), lambda b, n, c: (b, c, n))

    states = pl.BlockSpec((1, group, width, value), lambda b, n, c: (b, n, 0, 0))
    rows = pl.BlockSpec((1, 1, 1, ROWS, size), lambda b, n, c: (b, n, c, 0, 0))
    specs = [tokens(width), tokens(width), tokens(value), rows, states]
    arrays = [*flat, _rows(log_decay, segments, size, group), state.astype(jnp.float32)]
    if table is not None:
        specs.append(pl.BlockSpec((1, size, width), lambda b, n, c: (b, c, 0)))
        arrays.append(jnp.pad(table.astype(jnp.float32), ((0, 0), (0, pad), (0, 0))))
    form = Form(group, segments is not None, table is not None, how.scale, how.epsilon)
    y, last = pl.pallas_call(
        partial(kernel, form),
        out_shape=(
            jax.ShapeDtypeStruct((batch, blocks * size, heads * value), dtype),
            jax.ShapeDtypeStruct(state.shape, jnp.float32),
        ),
        grid=(batch, heads // group, blocks),
        in_specs=specs,
        out_specs=(tokens(value), states),
        scratch_shapes=[pltpu.VMEM((group, width, value), jnp.float32)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        cost_estimate=cost(form, batch, blocks, size, heads, (width, value), itemsizes),
        interpret=how.interpret,
        name="gated_retention",
    )(*arrays)
    return y[:, :length].reshape(batch, length, heads, value), last


def _rows(
    log_decay: Float[Array, "B T N"], segments: Int[Array, "B T"] | None, size: int, group: int
) -> Float[Array, "B H C R L"]:
    """A tile for each block: sums of its log decays from its start by head, then its documents."""
    batch, length, heads = log_decay.shape
    wide = jnp.pad(log_decay.astype(jnp.float32), ((0, 0), (0, -length % size), (0, 0)))
    sums = jnp.cumsum(wide.reshape(batch, -1, size, heads // group, group), axis=2)
    rows = jnp.pad(sums.transpose(0, 3, 1, 4, 2), ((0, 0),) * 3 + ((0, ROWS - group), (0, 0)))
    if segments is None:
        return rows
    blocks = segments_into_blocks(segments, size)
    # Counted from the block's first, so that they are exact in float32.
    numbers = blocks - blocks[..., :1]
    both = jnp.stack([numbers, boundaries(blocks).reads], axis=2).astype(jnp.float32)
    return rows.at[..., DOCUMENTS:, :].set(jnp.moveaxis(both, 0, 1)[:, None])


def heads_together(
    heads: int, size: int, widths: tuple[int, int], itemsizes: tuple[int, int]
) -> int:
    """How many heads a step of the grid treats: several, since a step has a cost of its own.

    Args:
        itemsizes: bytes of a number that is read, and of one that is written.
    """
    key, value = widths
    tokens = size * ((2 * key + value) * itemsizes[0] + value * itemsizes[1])
    each = 2 * (tokens + 2 * 4 * key * value)
    fit = [n for n in (6, 4, 2) if heads % n == 0 and n * each <= BLOCK_BYTES]
    return max(fit, default=1)


def cost(
    form: Form,
    batch: int,
    blocks: int,
    size: int,
    heads: int,
    widths: tuple[int, int],
    itemsizes: tuple[int, int],
) -> pl.CostEstimate:
    """Operations and traffic, for the compiler's estimates: it cannot look into a kernel."""
    key, value = widths
    products = 2 * size * (size * (key + value) + 2 * key * value)
    elementwise = 4 * size * size + 4 * size * value + 2 * key * value
    elementwise += size * (6 * key * form.turned + 4 * value * (form.epsilon is not None))
    moved = size * ((2 * key + value) * itemsizes[0] + value * itemsizes[1])
    # Once for each group of heads: the tile of rows, and the table of the rotation.
    shared = 4 * size * (ROWS + key * form.turned) / form.group
    each, states = batch * heads * blocks, batch * heads * key * value
    return pl.CostEstimate(
        flops=each * (products + elementwise),
        transcendentals=each * (size * size + 2 * size + 1),
        bytes_accessed=int(each * (moved + shared)) + 2 * 4 * states,
    )
