"""Replays a trace in an allocator: what it reserves, and with how little it can work."""

from collections.abc import Callable
from dataclasses import dataclass

from loomax.memory.allocator.protocol import Allocator
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace, blocks


@dataclass(frozen=True)
class Replay:
    """What an allocator needed for a trace.

    Args:
        reserved: most bytes that it had taken from the system.
        allocated: most bytes that it had handed out, its own rounding included.
        lower_bound: most bytes of the trace live at once.
    """

    reserved: int
    allocated: int
    lower_bound: int

    @property
    def fragmentation(self) -> float:
        """The part of the reserved bytes that a perfect allocator would not need."""
        return 1 - self.lower_bound / self.reserved if self.reserved else 0.0


def events(trace: Trace) -> list[tuple[bool, Lifetime]]:
    """(whether it is allocated, buffer) in order; at one time buffers are freed first.

    Buffers of an alias group are one buffer, with the name of the first.
    """
    ordered = []
    for index, record in enumerate(blocks(trace.records)):
        ordered.append((record.birth, 1, index, record))
        ordered.append((record.death, 0, index, record))
    ordered.sort(key=lambda event: event[:3])
    return [(bool(born), record) for _, born, _, record in ordered]


def replay(trace: Trace, allocator: Allocator) -> Replay:
    """Allocates and frees all buffers of a trace in an allocator.

    Raises:
        MemoryError: they do not fit within the allocator's capacity.
    """
    reserved = allocated = 0
    for born, record in events(trace):
        if born:
            allocator.malloc(record.id, record.size)
            reserved = max(reserved, allocator.reserved)
            allocated = max(allocated, allocator.allocated)
        else:
            allocator.free(record.id)
    return Replay(reserved, allocated, trace.lower_bound)


def works(trace: Trace, allocator: Allocator) -> bool:
    """Whether a trace fits within the allocator's capacity."""
    try:
        replay(trace, allocator)
    except MemoryError:
        return False
    return True


def least_capacity(trace: Trace, make: Callable[[int], Allocator], step: int = 512) -> int:
    """The least workable capacity: the trace fits within it, and not within one step less.

    It is found by bisection. An allocator can, rarely, work with less than a capacity with which it
    fails: then this is one of several such limits.

    Args:
        trace: that is replayed.
        make: an allocator with a given capacity.
        step: the answer is a multiple of this.
    """
    if step < 1:
        raise ValueError(f"step is {step}: give at least 1 byte")
    if not trace.lower_bound:
        return 0
    high = -(-trace.lower_bound // step)
    low = high - 1
    while not works(trace, make(high * step)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if works(trace, make(middle * step)):
            high = middle
        else:
            low = middle
    return high * step
