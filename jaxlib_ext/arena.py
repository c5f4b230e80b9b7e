"""The arena (csrc/arena): large buffers that XLA:CPU takes from libc, recorded or planned.

XLA:CPU asks libc for the temporaries of every call anew. The arena stands in between: it writes a
log of the requests, or serves them from one mapping at planned offsets. Linux on x86-64 and
aarch64 only. In this process it changes the slots through which jaxlib calls libc; with
`environment` the library is loaded before a program starts. Imports no JAX.
"""

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from loomax.jaxlib_ext.build import ARENA

# Smaller requests stay with libc, which serves them without the system's help.
THRESHOLD = 1 << 16
ERROR_BYTES = 4096
MOST_BYTES = 2**60


@dataclass(frozen=True)
class ArenaOptions:
    """How the arena runs; with neither log nor plan it only counts.

    Args:
        log: file that is written: every request and every free.
        plan: file of offsets (`loomax.memory.arena.plan_file`).
        budget: bytes that may be held; a request beyond it fails, with a line on stderr. None: no
            limit. Only requests through posix_memalign and aligned_alloc of at least the threshold
            count, as XLA:CPU makes them; what comes from malloc does not.
        threshold: smaller requests are not looked at, in bytes; a plan lowers it to its smallest.
        huge_pages: the plan's memory asks for huge pages.
        check: every event checks that no two blocks overlap, and freed blocks are overwritten.
        report: prints a line when the process ends.
    """

    log: str | Path | None = None
    plan: str | Path | None = None
    budget: int | None = None
    threshold: int = THRESHOLD
    huge_pages: bool = True
    check: bool = False
    report: bool = False

    def __post_init__(self):
        if not 1 <= self.threshold <= MOST_BYTES:
            raise ValueError(f"threshold is {self.threshold}: give 1 to 2**60 bytes")
        if self.budget is not None and not 1 <= self.budget <= MOST_BYTES:
            raise ValueError(f"budget is {self.budget}: give 1 to 2**60 bytes, or None")
        if self.log is not None and self.plan is not None:
            raise ValueError(f"log {self.log} and plan {self.plan}: give one of them")


class _Counts(ctypes.Structure):
    # The order is that of `Counts` in csrc/arena/arena.h.
    names = (
        *("requests", "planned", "before", "unknown", "left", "taken", "denied"),
        *("recognised", "live", "most_live", "touched", "in_region"),
    )
    _fields_ = tuple((name, ctypes.c_uint64) for name in names)


@dataclass(frozen=True)
class Counts:
    """What happened to requests of at least the threshold.

    Args:
        requests: all.
        planned: had a place of the plan; all others went to libc:
        before: came before the plan's loop was recognised,
        unknown: had a size that this part of the plan does not have,
        left: are left to libc by the plan,
        taken: found their place in use, or misaligned.
        denied: over the budget; they failed.
        recognised: how often the loop was found; 0: the plan is another program's.
        live: bytes in use now.
        most_live: most bytes in use.
        touched: bytes of the plan's memory that were ever in use.
        in_region: blocks of the plan in use now.
    """

    requests: int
    planned: int
    before: int
    unknown: int
    left: int
    taken: int
    denied: int
    recognised: int
    live: int
    most_live: int
    touched: int
    in_region: int


def available() -> bool:
    """Whether the arena was built and can be loaded here."""
    return _library() is not None


def start(options: ArenaOptions) -> None:
    """Puts the arena between jaxlib, which must be imported, and libc. A log is written anew.

    Raises:
        RuntimeError: the arena was not built, is in use, or cannot be put there.
        ValueError: the plan cannot be used, or is larger than the budget.
    """
    library = _built()
    if options.log is not None:
        Path(options.log).unlink(missing_ok=True)
    error = ctypes.create_string_buffer(ERROR_BYTES)
    failed = library.loomax_arena_start(
        _encoded(options.log),
        _encoded(options.plan),
        ctypes.c_uint64(options.threshold),
        ctypes.c_uint64(options.budget or 0),
        int(options.huge_pages),
        int(options.check),
        int(options.report),
        error,
        ctypes.c_size_t(ERROR_BYTES),
    )
    if failed:
        text = error.value.decode()
        raise (ValueError if text.startswith("plan ") else RuntimeError)(text)


def counts() -> Counts:
    """What has happened since the start.

    Raises:
        RuntimeError: no arena is in use.
    """
    found = _Counts()
    if not _built().loomax_arena_counts(ctypes.byref(found)):
        raise RuntimeError("no arena is in use: start one first")
    return Counts(**{name: getattr(found, name) for name in _Counts.names})


def stop() -> int:
    """Takes the arena out and finishes its log; returns how many blocks of the plan still live.

    They stay where they are; with the last of them the memory is given back, and jaxlib calls
    libc's `free` again. Until then no other arena can start. In a process that `environment`
    started the hooks stay and pass everything on.
    """
    return _built().loomax_arena_stop()


def hooked() -> int:
    """Slots of jaxlib that call the arena now."""
    return _built().loomax_arena_slots()


def environment(options: ArenaOptions) -> dict[str, str]:
    """Environment variables with which a new process runs under the arena.

    Raises:
        RuntimeError: the arena was not built.
    """
    _built()
    found = {
        "LOOMAX_ARENA_LOG": "" if options.log is None else str(Path(options.log).resolve()),
        "LOOMAX_ARENA_PLAN": "" if options.plan is None else str(Path(options.plan).resolve()),
        "LOOMAX_ARENA_BUDGET": str(options.budget or 0),
        "LOOMAX_ARENA_THRESHOLD": str(options.threshold),
        "LOOMAX_ARENA_HUGE": str(int(options.huge_pages)),
        "LOOMAX_ARENA_CHECK": str(int(options.check)),
    }
    others = os.environ.get("LD_PRELOAD")
    return found | {"LD_PRELOAD": f"{ARENA}:{others}" if others else str(ARENA)}


@functools.cache
def _library() -> ctypes.CDLL | None:
    if not ARENA.exists():
        return None
    try:
        library = ctypes.CDLL(str(ARENA))
    except OSError:
        return None
    library.loomax_arena_stop.restype = ctypes.c_uint64
    return library


def _built() -> ctypes.CDLL:
    library = _library()
    if library is None:
        raise RuntimeError(
            "the arena is not built: python -m loomax.jaxlib_ext.build makes it (Linux on x86-64 "
            "or aarch64, with a C++ compiler)"
        )
    return library


def _encoded(path: str | Path | None) -> bytes | None:
    return None if path is None else os.fsencode(Path(path).resolve())
