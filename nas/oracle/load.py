"""Whether the machine is quiet enough to measure on. Imports no JAX."""

import os
import time
from collections.abc import Callable
from pathlib import Path

_STAT = Path("/proc/stat")


def busy_cores(seconds: float = 0.3) -> float:
    """Cores that others keep busy, on average while this process sleeps for `seconds`.

    Where the system does not say, the load of the last minute, with this process's own.
    """
    if not _STAT.exists():
        return os.getloadavg()[0]
    before = _ticks()
    time.sleep(seconds)
    busy, total = (after - old for after, old in zip(_ticks(), before, strict=True))
    return (os.cpu_count() or 1) * busy / total if total else 0.0


def _ticks() -> tuple[int, int]:
    """(busy, all) ticks of all cores since the machine started."""
    fields = [int(word) for word in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


def check_quiet(most: float, busy: Callable[[], float] = busy_cores) -> None:
    """Refuses to measure beside other work.

    Args:
        most: cores that others may keep busy.

    Raises:
        ValueError: they keep more busy.
    """
    found = busy()
    if found > most:
        raise ValueError(
            f"other processes keep {found:.1f} of {os.cpu_count()} cores busy, more than"
            f" {most:g}: stop them or wait, or allow more with --max-load (the figures get worse);"
            " what was measured is kept"
        )
