"""glibc's allocator for programs of XLA:CPU. Imports no JAX.

XLA:CPU takes its temporaries from malloc in every call and frees them after it. By default glibc
maps large blocks anew each time, so that the kernel has to clear every page in every step.
"""

import ctypes
import os
from collections.abc import Mapping

SWITCH = "LOOMAX_MALLOC"
# malloc.h of glibc: parameters of mallopt, and what they are set to. Only the main arena can hold
# blocks above 64 MiB without mapping them, so all threads share it.
SETTINGS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_ARENA_MAX": (-8, 1)}


def keep_large_blocks(environ: Mapping[str, str] = os.environ) -> bool:
    """Lets glibc keep memory that was freed, instead of mapping it anew in every step.

    The process then never gives memory back to the system before it ends. Only threads that start
    later share the main arena, so call it before JAX is used. Nothing happens on another C
    library, with LOOMAX_MALLOC=0, or where the user has set MALLOC_* or glibc.malloc tunables.

    Returns:
        Whether all was set.
    """
    if environ.get(SWITCH) == "0" or tuned_by_user(environ) or not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(parameter, value) for parameter, value in SETTINGS.values()])


def tuned_by_user(environ: Mapping[str, str]) -> bool:
    """Whether the environment has settings of glibc's malloc."""
    if "glibc.malloc." in environ.get("GLIBC_TUNABLES", ""):
        return True
    return any(name.startswith("MALLOC_") and value for name, value in environ.items())


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):
        return False
