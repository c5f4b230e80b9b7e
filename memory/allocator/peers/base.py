"""What the peers share: names, counters and the limit on what may be reserved. Imports no JAX."""

from abc import ABC, abstractmethod

from loomax.memory.allocator.peers.chunks import Chunk, Pool
from loomax.memory.allocator.protocol import check_capacity, check_free, check_malloc


class Peer(ABC):
    """An allocator that hands out chunks.

    Args:
        capacity: bytes that it may reserve; None: no limit.
    """

    def __init__(self, capacity: int | None = None):
        check_capacity(capacity)
        self.capacity = capacity
        self.reserved = 0
        self.allocated = 0
        self._live: dict[str, tuple[Chunk, Pool] | None] = {}

    @abstractmethod
    def _find(self, size: int) -> tuple[Chunk, Pool]:
        """A chunk for `size` bytes, 1 or more, and its pool, of which it is no longer a part."""

    def malloc(self, id: str, size: int) -> int:
        """As `Allocator.malloc`; an empty buffer takes nothing."""
        check_malloc(id, size, id in self._live)
        if not size:
            self._live[id] = None
            return 0
        found = self._find(size)
        self._live[id] = found
        self.allocated += found[0].size
        return found[0].address

    def free(self, id: str) -> None:
        """As `Allocator.free`."""
        check_free(id, id in self._live)
        held = self._live.pop(id)
        if held is not None:
            chunk, pool = held
            self.allocated -= chunk.size
            pool.give_back(chunk)

    def _room(self, size: int) -> bool:
        return self.capacity is None or self.reserved + size <= self.capacity

    def _full(self, size: int) -> MemoryError:
        return MemoryError(
            f"{size} bytes do not fit: {self.reserved} of {self.capacity} are reserved, "
            f"{self.allocated} of them in use"
        )
