"""PyTorch's caching allocator with `expandable_segments:True`, on one stream. Imports no JAX.

Rules: c10/cuda/CUDACachingAllocator.cpp (github.com/pytorch/pytorch), the note on expandable
segments and the functions that find, map and unmap blocks.
"""

from bisect import bisect_left, insort

from loomax.memory.allocator.peers.base import Peer
from loomax.memory.allocator.peers.chunks import Chunk, Pool
from loomax.memory.allocator.peers.torch_caching import BLOCK, LARGE_SEGMENT, SMALL, SMALL_SEGMENT
from loomax.memory.allocator.protocol import round_up

# Addresses of a pool: more than any machine has, so that no second range is needed.
ADDRESSES = 2**55


class Range(Pool):
    """One range of addresses, of which whole pages are mapped where and when they are needed."""

    def __init__(self, start: int, page: int):
        super().__init__()
        self.page = page
        self.unmapped: list[Chunk] = []
        self.put(Chunk(start, ADDRESSES, mapped=False))

    def put(self, chunk: Chunk) -> None:
        """Adds a chunk; without memory it waits apart, in the order of addresses."""
        if chunk.mapped:
            super().put(chunk)
        else:
            chunk.free = True
            insort(self.unmapped, chunk, key=lambda other: other.address)

    def take(self, chunk: Chunk) -> None:
        """Removes a chunk."""
        if chunk.mapped:
            super().take(chunk)
        else:
            chunk.free = False
            at = bisect_left(self.unmapped, chunk.address, key=lambda other: other.address)
            del self.unmapped[at]

    def best(self, size: int) -> Chunk | None:
        """Best fit, where a chunk that can grow counts with what it can grow to."""
        best = None
        for chunk in self.fitting(size):
            if best is not None and _reach(chunk) >= _reach(best):
                break
            best = chunk
        return best

    def expandable(self, size: int) -> Chunk:
        """The lowest free addresses, with memory or without, that begin at or before a hole."""
        for hole in self.unmapped:
            start = hole.before if hole.before is not None and hole.before.free else hole
            chunk, length = start, 0
            while length < size and chunk is not None and chunk.free:
                length += chunk.size
                chunk = chunk.after
            if length >= size:
                return start
        raise MemoryError(f"{size} bytes: over {ADDRESSES}, the addresses of a pool")

    def map(self, chunk: Chunk, size: int) -> Chunk:
        """Puts memory behind the first `size` bytes of a hole; returns what they are part of."""
        self.take(chunk)
        if chunk.size > size:
            self.put(self.split(chunk, size))
        chunk.mapped = True
        self.give_back(chunk)
        return chunk

    def unmap(self, chunk: Chunk) -> int:
        """Takes the memory from the whole pages of a free chunk; returns their bytes."""
        start = round_up(chunk.address, self.page)
        length = (chunk.address + chunk.size) // self.page * self.page - start
        if length <= 0:
            return 0
        self.take(chunk)
        if start > chunk.address:
            head, chunk = chunk, self.split(chunk, start - chunk.address)
            self.put(head)
        if chunk.size > length:
            self.put(self.split(chunk, length))
        chunk.mapped = False
        self.give_back(chunk)
        return length


class TorchExpandable(Peer):
    """Two ranges that grow by pages of 2 MiB (small requests) and 20 MiB (large ones)."""

    def __init__(self, capacity: int | None = None):
        super().__init__(capacity)
        self._small = Range(0, SMALL_SEGMENT)
        # A multiple of the page.
        self._large = Range(round_up(ADDRESSES, LARGE_SEGMENT), LARGE_SEGMENT)

    def _find(self, size: int) -> tuple[Chunk, Pool]:
        size = round_up(size, BLOCK)
        pool = self._small if size <= SMALL else self._large
        chunk = pool.best(size) or self._grow(pool, size)
        if chunk is None:
            self.empty_cache()
            chunk = self._grow(pool, size)
        if chunk is None:
            raise self._full(size)
        pool.take(chunk)
        if chunk.size - size >= BLOCK:
            pool.put(pool.split(chunk, size))
        return chunk, pool

    def _grow(self, pool: Range, size: int) -> Chunk | None:
        """Maps as many pages as `size` needs, from the lowest place on; None: over the capacity."""
        chunk = pool.expandable(size)
        while not chunk.mapped or chunk.size < size:
            hole = chunk.after if chunk.mapped else chunk
            assert hole is not None and not hole.mapped
            missing = size - chunk.size if chunk.mapped else size
            length = min(round_up(missing, pool.page), hole.size)
            if not self._room(length):
                return None
            self.reserved += length
            chunk = pool.map(hole, length)
        return chunk

    def empty_cache(self) -> None:
        """Takes the memory from all whole pages that are free."""
        for pool in (self._small, self._large):
            for chunk in pool.chunks():
                self.reserved -= pool.unmap(chunk)


def _reach(chunk: Chunk) -> int:
    """Bytes of a chunk and of the hole behind it."""
    behind = chunk.after
    return chunk.size + (behind.size if behind is not None and not behind.mapped else 0)
