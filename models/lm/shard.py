"""One device's part of rows whose tokens are spread over a mesh axis.

Shape letters: B batch, T tokens of a shard, C shards, S = C T tokens of a row.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from loomax.models.lm.ops.attend import Places
from loomax.models.lm.span import Span, positions


@dataclass(frozen=True)
class Shard:
    """Tokens index T ... (index + 1) T - 1 of every row; lives inside a `jax.shard_map`.

    Args:
        axis: the mesh axis that rows are spread over.
        count: devices along it.
        index: this device's place among them.
        batch, length: B and T.
        documents: numbers of the documents of whole packed rows, ascending. They are small, so
            every device has them all and boundaries need no messages.
    """

    axis: str
    count: int
    index: Int[Array, ""]
    batch: int
    length: int
    documents: Int[Array, "B S"] | None = None

    @property
    def span(self) -> Span:
        """Where this shard's tokens stand in their rows."""
        start = jnp.full((self.batch,), self.index * self.length, jnp.int32)
        count = jnp.full((self.batch,), self.length, jnp.int32)
        return Span(start, count, self.segments())

    def segments(self, earlier: int = 0) -> Int[Array, "B T"] | None:
        """Documents of this shard's tokens, behind those of `earlier` tokens before them.

        What would lie before the row counts as its first document.
        """
        if self.documents is None:
            return None
        padded = jnp.pad(self.documents, ((0, 0), (earlier, 0)), mode="edge")
        first, size = self.index * self.length, earlier + self.length
        return jax.lax.dynamic_slice_in_dim(padded, first, size, axis=1)

    def places(self) -> tuple[Places, Places]:
        """Of this shard's tokens, and of all tokens of the rows."""
        span, size = self.span, self.count * self.length
        row = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (self.batch, size))
        return Places(positions(span, self.length), span.segments), Places(row, self.documents)

    def gather(self, x: Array) -> Array:
        """[B, T, ...] of all shards side by side, [B, S, ...]."""
        return jax.lax.all_gather(x, self.axis, axis=1, tiled=True)

    def stack(self, x: Array) -> Array:
        """An array of every shard, [C, ...]."""
        return jax.lax.all_gather(x, self.axis)

    def with_earlier(self, x: Array, size: int) -> Array:
        """[B, T, ...] behind the last `size` of the shard before, which are 0 for the first."""
        pairs = [(index, index + 1) for index in range(self.count - 1)]
        last = x[:, self.length - size :]
        return jnp.concatenate([jax.lax.ppermute(last, self.axis, pairs), x], axis=1)

    def feeds(self) -> Bool[Array, "C B"]:
        """Which shard lies before this one and ends in the document that this one begins in.

        Documents ascend, so any shard between the two is of that document alone.
        """
        earlier = jnp.arange(self.count)[:, None] < self.index
        if self.documents is None:
            return jnp.broadcast_to(earlier, (self.count, self.batch))
        # Not a slice with a stride, on which the TPU compiler failed at a million tokens.
        last = self.documents.reshape(self.batch, self.count, self.length)[:, :, -1].T
        return earlier & (last == self.segments()[:, 0])
