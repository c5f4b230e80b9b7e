"""What an allocator is, and the bookkeeping that all of ours share. Imports no JAX."""

from typing import Protocol, runtime_checkable

MIB = 2**20


@runtime_checkable
class Allocator(Protocol):
    """Hands out ranges of addresses to named buffers.

    `reserved` is what it has taken from the system, `allocated` the part of it that is handed out,
    what the allocator adds to a request included.
    """

    reserved: int
    allocated: int

    def malloc(self, id: str, size: int) -> int:
        """The address of a new buffer.

        Raises:
            ValueError: the name is live, or the size is negative.
            MemoryError: it does not fit within the capacity.
        """
        ...

    def free(self, id: str) -> None:
        """Takes a buffer back.

        Raises:
            ValueError: no such buffer is live.
        """
        ...


def round_up(size: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-size // unit) * unit


def check_malloc(id: str, size: int, taken: bool) -> None:
    """Refuses a request that no allocator can serve.

    Raises:
        ValueError: the name is live, or the size is negative.
    """
    if size < 0:
        raise ValueError(f"buffer {id!r}: size is {size}: it must be 0 or more")
    if taken:
        raise ValueError(f"buffer {id!r} is live: free it before it is allocated again")


def check_free(id: str, taken: bool) -> None:
    """Refuses to free what is not live.

    Raises:
        ValueError: no such buffer is live.
    """
    if not taken:
        raise ValueError(f"buffer {id!r} is not live: it was freed, or never allocated")


def check_capacity(capacity: int | None) -> None:
    """Refuses a capacity below 0.

    Raises:
        ValueError: the capacity is negative.
    """
    if capacity is not None and capacity < 0:
        raise ValueError(f"capacity is {capacity}: give 0 or more bytes, or None for no limit")
