"""Chunks of memory and the pool of the free ones, in the order of best fit. Imports no JAX."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional


@dataclass(eq=False, slots=True)
class Chunk:
    """A range of addresses, linked to its neighbours in the same segment.

    Args:
        address: of its first byte.
        size: bytes.
        free: whether it is in the pool, waiting for a request.
        mapped: whether there is memory behind its addresses.
        before: the chunk that ends where it begins.
        after: the chunk that begins where it ends.
    """

    address: int
    size: int
    free: bool = False
    mapped: bool = True
    before: Optional["Chunk"] = None
    after: Optional["Chunk"] = None


class Pool:
    """Free chunks, smallest first; of one size the lowest address first."""

    def __init__(self):
        self._order: list[tuple[int, int]] = []
        self._chunks: dict[int, Chunk] = {}

    def put(self, chunk: Chunk) -> None:
        """Adds a chunk as it is."""
        chunk.free = True
        self._chunks[chunk.address] = chunk
        insort(self._order, (chunk.size, chunk.address))

    def take(self, chunk: Chunk) -> None:
        """Removes a chunk."""
        chunk.free = False
        del self._chunks[chunk.address]
        del self._order[bisect_left(self._order, (chunk.size, chunk.address))]

    def fitting(self, size: int) -> Iterator[Chunk]:
        """The chunks of at least `size` bytes, best fit first."""
        for at in range(bisect_left(self._order, (size, -1)), len(self._order)):
            yield self._chunks[self._order[at][1]]

    def chunks(self) -> list[Chunk]:
        """All free chunks, smallest first."""
        return [self._chunks[address] for _, address in self._order]

    def give_back(self, chunk: Chunk) -> None:
        """Adds a chunk after joining it with free neighbours."""
        self.join(chunk)
        self.put(chunk)

    def split(self, chunk: Chunk, size: int) -> Chunk:
        """Shortens a chunk that is not in the pool to `size`, and returns the rest."""
        rest = Chunk(
            chunk.address + size,
            chunk.size - size,
            mapped=chunk.mapped,
            before=chunk,
            after=chunk.after,
        )
        if rest.after is not None:
            rest.after.before = rest
        chunk.size, chunk.after = size, rest
        return rest

    def join(self, chunk: Chunk) -> None:
        """Lets a chunk that is not in the pool swallow free neighbours of its kind."""
        before, after = chunk.before, chunk.after
        if before is not None and before.free and before.mapped == chunk.mapped:
            self.take(before)
            chunk.address, chunk.size = before.address, before.size + chunk.size
            chunk.before = before.before
            if chunk.before is not None:
                chunk.before.after = chunk
        if after is not None and after.free and after.mapped == chunk.mapped:
            self.take(after)
            chunk.size, chunk.after = chunk.size + after.size, after.after
            if chunk.after is not None:
                chunk.after.before = chunk
