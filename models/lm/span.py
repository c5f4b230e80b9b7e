"""Which tokens of a block are real, and where they stand. Shape letters: B batch, T tokens."""

from typing import no_type_check

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int


@struct.dataclass
@no_type_check  # also holds whole batches of spans
class Span:
    """A block of tokens in sequences that already hold `start` tokens each.

    Only the first `count` tokens of a row are real. `segments` number the documents of packed
    rows, in ascending order; they are for training, where no cache is involved.
    """

    start: Int[Array, " B"]
    count: Int[Array, " B"]
    segments: Int[Array, "B T"] | None = None


def whole(batch: int, length: int, segments: Int[Array, "B T"] | None = None) -> Span:
    """Rows without a past and without padding."""
    return Span(jnp.zeros((batch,), jnp.int32), jnp.full((batch,), length, jnp.int32), segments)


def positions(span: Span, length: int) -> Int[Array, "B T"]:
    """Positions of a block's tokens in their sequences."""
    return span.start[:, None] + jnp.arange(length, dtype=jnp.int32)


def valid(span: Span, length: int) -> Bool[Array, "B T"]:
    """Which tokens of a block are real."""
    return jnp.arange(length) < span.count[:, None]


def last_token(x: Array, span: Span) -> Array:
    """The last real token of each row, [B, 1, ...]; the first one where there is none."""
    index = jnp.maximum(span.count - 1, 0)
    index = index.reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.take_along_axis(x, index, axis=1)
