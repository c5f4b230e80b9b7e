"""The compiled run-time allocator (csrc/online*.cc) through ctypes: buffers are numbers here.

Its twin is loomax.memory.allocator.planned. Shape letters: N planned buffers, E events.
"""

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np

from loomax.jaxlib_ext.library import native

# What stands for an address that could not be given.
NO_ROOM, LIVE, NOT_LIVE, FAILED = -1, -2, -3, -4
# Not predicted.
NONE = -(2**63)
STATE = ("reserved", "allocated", "peak", "wanted", "hits", "gaps", "fallback", "missed", "growth")


def available() -> bool:
    """Whether the compiled allocator is there."""
    library = native()
    return library is not None and hasattr(library, "loomax_online_new")


class Online:
    """Planned buffers are 0 to N - 1, and all others the numbers from N on.

    Args:
        records: [N, 5] of birth, death, offset, padded size and alignment.
        begin, end: of an iteration, in the plan's time.
        alignment: of what is not planned.
        capacity: bytes; None: no limit.
        learns: predictions are the longest spans so far, and not deaths.

    Raises:
        RuntimeError: there is no compiled allocator, or no memory.
    """

    def __init__(
        self,
        records: Sequence[Sequence[int]],
        begin: int,
        end: int,
        alignment: int,
        capacity: int | None,
        learns: bool,
    ):
        library = native()
        if library is None or not available():
            raise RuntimeError("no compiled allocator: python -m loomax.jaxlib_ext.build makes it")
        self._library = library
        library.loomax_online_new.restype = ctypes.c_void_p
        for name in ("malloc", "free", "replay"):
            getattr(library, f"loomax_online_{name}").restype = ctypes.c_int64
        limit = -1 if capacity is None else capacity
        table = np.array(records, np.int64).reshape(-1, 5)
        settings = (ctypes.c_int64 * 5)(begin, end, alignment, limit, learns)
        handle = library.loomax_online_new(_int(len(table)), _pointer(table), settings)
        if handle is None:
            raise RuntimeError(f"the compiled allocator has no memory for {len(table)} buffers")
        self._handle = ctypes.c_void_p(handle)
        weakref.finalize(self, library.loomax_online_delete, self._handle)

    def malloc(self, number: int, size: int) -> int:
        """The address, or NO_ROOM, LIVE or FAILED."""
        return self._library.loomax_online_malloc(self._handle, _int(number), _int(size))

    def free(self, number: int) -> int:
        """0, or NOT_LIVE or FAILED."""
        return self._library.loomax_online_free(self._handle, _int(number))

    def replay(self, numbers: np.ndarray, sizes: np.ndarray) -> tuple[int, np.ndarray]:
        """Does events one after the other, up to the first that is wrong.

        Args:
            numbers: [E] buffers.
            sizes: [E] bytes to allocate; below 0: free it. To free what found no room is nothing.

        Returns:
            How many were done, and [E] what each returned, as `malloc` or `free`.
        """
        ids, asked = np.ascontiguousarray(numbers, np.int64), np.ascontiguousarray(sizes, np.int64)
        found = np.empty(len(ids), np.int64)
        arrays = (_pointer(ids), _pointer(asked), _pointer(found))
        done = self._library.loomax_online_replay(self._handle, _int(len(ids)), *arrays)
        return done, found

    def state(self) -> dict[str, int]:
        """Bytes and counts, by the names of STATE."""
        out = np.zeros(len(STATE), np.int64)
        self._library.loomax_online_state(self._handle, _pointer(out))
        return dict(zip(STATE, out.tolist(), strict=True))

    def predict(self, number: int, time: int) -> None:
        """Sets the span or the death of a buffer that is not planned."""
        if self._library.loomax_online_predict(self._handle, _int(number), _int(time)):
            raise RuntimeError(f"the compiled allocator has no memory for buffer {number}")

    def predictions(self, first: int, stop: int) -> list[int]:
        """Spans or deaths of the buffers [first, stop), NONE where there is none."""
        out = np.empty(stop - first, np.int64)
        self._library.loomax_online_predictions(
            self._handle, _int(first), _int(stop - first), _pointer(out)
        )
        return out.tolist()


def _int(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
