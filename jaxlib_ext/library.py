"""The shared library of this room, when it was built."""

import ctypes
import functools
import os

from loomax.jaxlib_ext import build


@functools.cache
def native() -> ctypes.CDLL | None:
    """The loaded library, or None: not built, not loadable here, or LOOMAX_NATIVE=0."""
    path = build.library()
    if os.environ.get("LOOMAX_NATIVE") == "0" or not path.exists():
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None
