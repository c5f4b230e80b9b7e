"""PyTorch's caching allocator on one stream, with its default settings. Imports no JAX.

Rules: c10/cuda/CUDACachingAllocator.cpp (github.com/pytorch/pytorch), and "Memory management" in
PyTorch's notes on CUDA.
"""

from loomax.memory.allocator.peers.base import Peer
from loomax.memory.allocator.peers.chunks import Chunk, Pool
from loomax.memory.allocator.protocol import MIB, round_up

BLOCK = 512
SMALL = MIB  # the largest request of the small pool
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
OWN_SEGMENT = 10 * MIB  # from here on a request gets a segment of its own
SEGMENT_UNIT = 2 * MIB


class TorchCaching(Peer):
    """Segments that are cut into blocks, cached when free, and returned when memory is short.

    Segments get addresses one after the other and never again, as if the system had many.
    """

    def __init__(self, capacity: int | None = None):
        super().__init__(capacity)
        self._small, self._large = Pool(), Pool()
        self._next = 0

    def _find(self, size: int) -> tuple[Chunk, Pool]:
        size = round_up(size, BLOCK)
        pool = self._small if size <= SMALL else self._large
        chunk = next(pool.fitting(size), None)
        if chunk is None:
            chunk = self._segment(size)
        else:
            pool.take(chunk)
        rest = chunk.size - size
        if rest >= BLOCK if pool is self._small else rest > SMALL:
            pool.put(pool.split(chunk, size))
        return chunk, pool

    def _segment(self, size: int) -> Chunk:
        length = segment_bytes(size)
        if not self._room(length):
            self.empty_cache()
        if not self._room(length):
            raise self._full(length)
        chunk = Chunk(self._next, length)
        self._next += length
        self.reserved += length
        return chunk

    def empty_cache(self) -> None:
        """Returns the segments that are free as a whole."""
        for pool in (self._small, self._large):
            for chunk in pool.chunks():
                if chunk.before is None and chunk.after is None:
                    pool.take(chunk)
                    self.reserved -= chunk.size


def segment_bytes(size: int) -> int:
    """Length of a new segment for a rounded request."""
    if size <= SMALL:
        return SMALL_SEGMENT
    return LARGE_SEGMENT if size < OWN_SEGMENT else round_up(size, SEGMENT_UNIT)
