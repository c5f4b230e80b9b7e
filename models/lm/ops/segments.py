"""Document boundaries inside blocks of tokens that a recurrent mixer treats at once.

A state belongs to one document: a token reads the state that entered its block only if the block
before ended in the token's own document, and the state that leaves a block holds its last document.

Shape letters: C blocks, B batch, L tokens of a block.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Boundaries(NamedTuple):
    """Masks of each block; all true when a row is one document."""

    same: Bool[Array, "C B L L"]  # query and key are of one document
    reads: Bool[Array, "C B L"]  # the token's document is that of the entering state
    stays: Bool[Array, "C B L"]  # the token's document is that of the leaving state
    carries: Bool[Array, "C B"]  # the entering state's document goes on to the end of the block


def boundaries(segments: Int[Array, "C B L"]) -> Boundaries:
    """Masks from document numbers; the first block's state is that of its first document."""
    last = segments[:, :, -1]
    before = jnp.concatenate([segments[:1, :, 0], last[:-1]])
    return Boundaries(
        same=segments[..., :, None] == segments[..., None, :],
        reads=segments == before[..., None],
        stays=segments == last[..., None],
        carries=before == last,
    )
