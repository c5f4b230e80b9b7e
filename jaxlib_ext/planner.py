"""The compiled planner (csrc/planner*.cc) through ctypes; its twin is loomax.memory.planner.twin.

Shape letters: N buffers.
"""

import ctypes
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from loomax.jaxlib_ext.library import native

METHODS = ("greedy", "local", "search")


@dataclass(frozen=True)
class Packed:
    """What csrc/planner.cc returns.

    Args:
        lower_bound: proved.
        nodes: of the exact search.
        work: steps of the rules for many buffers, 0 where these are few.
    """

    offsets: tuple[int, ...]
    peak: int
    lower_bound: int
    method: str
    nodes: int
    work: int


def available() -> bool:
    """Whether the compiled planner is there."""
    library = native()
    return library is not None and hasattr(library, "loomax_planner_pack")


def pack(
    lower: Sequence[int],
    upper: Sequence[int],
    size: Sequence[int],
    *,
    capacity: int,
    seed: int,
    threads: int,
    moves: int,
    rounds: int,
    seconds: float,
    gap: float,
) -> Packed:
    """Offsets for N buffers of `size` above 0 that live in [lower, upper).

    Args:
        capacity: a peak to stop at; below 0: look for the least peak, or one of at most
            (1 + gap) lower bounds.
        threads: 0 takes one for each core.
        rounds: of exact search; below 0: no limit.

    Raises:
        RuntimeError: there is no compiled planner, or no memory.
    """
    library = native()
    if library is None or not available():
        raise RuntimeError("no compiled planner: python -m loomax.jaxlib_ext.build makes it")
    count = len(size)
    many, settings = ctypes.c_int64 * count, ctypes.c_int64 * 5
    offsets, result = many(), (ctypes.c_int64 * 5)()
    failed = library.loomax_planner_pack(
        ctypes.c_int64(count),
        *(many.from_buffer(array("q", numbers)) for numbers in (lower, upper, size)),
        settings(capacity, seed, threads or os.cpu_count() or 1, moves, rounds),
        ctypes.c_double(seconds),
        ctypes.c_double(gap),
        offsets,
        result,
    )
    if failed:
        raise RuntimeError(f"the compiled planner failed on {count} buffers: out of memory?")
    return Packed(tuple(offsets), result[0], result[1], METHODS[result[2]], *result[3:5])
