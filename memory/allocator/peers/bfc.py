"""XLA's allocator on GPUs: best fit with coalescing. Imports no JAX.

Rules: xla/tsl/framework/bfc_allocator.{h,cc} (github.com/openxla/xla), with the options that JAX
sets. Its bins only make the search fast: they divide the free chunks by size, and within a bin they
are ordered by size, then address, so the first that fits is the best fit of all.
"""

from loomax.memory.allocator.peers.base import Peer
from loomax.memory.allocator.peers.chunks import Chunk, Pool
from loomax.memory.allocator.protocol import MIB, round_up

CHUNK = 256
FIRST_REGION = 2 * MIB
MOST_WASTE = 128 * MIB  # a rest from this size on is always split off


class BFC(Peer):
    """Regions that are cut into chunks and never returned.

    Args:
        capacity: bytes that it may reserve.
        growth: True: each region is at least as large as the last, doubling from 2 MiB (JAX with
            `XLA_PYTHON_CLIENT_PREALLOCATE=false`). False: the first request takes the whole
            capacity as one region (JAX's default).

    Raises:
        ValueError: one region without a capacity.
    """

    def __init__(self, capacity: int | None = None, growth: bool = True):
        super().__init__(capacity)
        if capacity is None and not growth:
            raise ValueError("growth is False and capacity None: give the bytes of the one region")
        self._pool = Pool()
        self._next = 0
        self._region = FIRST_REGION
        if capacity is not None:
            self._region = round_up(min(capacity, FIRST_REGION) if growth else capacity, CHUNK)

    def _find(self, size: int) -> tuple[Chunk, Pool]:
        size = round_up(size, CHUNK)
        chunk = next(self._pool.fitting(size), None) or self._extend(size)
        self._pool.take(chunk)
        if chunk.size >= 2 * size or chunk.size - size >= MOST_WASTE:
            self._pool.put(self._pool.split(chunk, size))
        return chunk, self._pool

    def _extend(self, size: int) -> Chunk:
        """A new region, one free chunk."""
        if not self._room(size):
            raise self._full(size)
        length = max(self._region, CHUNK)
        while length < size:
            length *= 2
        # The next region is twice as large, unless this one already had to be.
        self._region = length if length > self._region else 2 * length
        if self.capacity is not None:
            length = min(length, (self.capacity - self.reserved) // CHUNK * CHUNK)
        chunk = Chunk(self._next, length)
        # Regions do not touch, so that chunks of two are never joined.
        self._next += length + CHUNK
        self.reserved += length
        self._pool.put(chunk)
        return chunk
