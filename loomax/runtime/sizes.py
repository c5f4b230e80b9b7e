"""Numbers of bytes as people write them. Imports no JAX."""

import math
import re
from decimal import Decimal

UNITS = {"": 1, "B": 1}
UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)}
UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
# More than any machine has, and sums of a few still fit into 64 bits.
MOST = 2**60
_LONGEST = 40
_FORM = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(size: str | float, name: str = "size", least: int = 1) -> int:
    """Bytes of "15GiB", "900 MB", "1.5e9", or of a number; a part of a byte is dropped.

    Args:
        name: of what is given, for messages.
        least: the smallest number that is taken.

    Raises:
        ValueError: it is no number of bytes (empty, negative, not finite), fewer than `least`, or
            more than 2**60; the message names it and the bound.
    """
    # A bool is an int, and no number of bytes.
    text = size if isinstance(size, str) else "" if isinstance(size, bool) else _plain(size)
    shown = repr(size[:_LONGEST]) if isinstance(size, str) else (text or str(size))[:_LONGEST]
    found = _FORM.fullmatch(text) if len(text) <= 1000 else None
    units = {unit.lower(): factor for unit, factor in UNITS.items()}
    if found is None or found[2].lower() not in units:
        raise ValueError(
            f"{name} is {shown}, no number of bytes: write 15GiB, 900MiB, 16GB or 1000000"
        )
    factor = units[found[2].lower()]
    # The float tells what is far too large for `Decimal`, which is exact.
    if not float(found[1]) * factor <= 2.0 * MOST or Decimal(found[1]) * factor > MOST:
        raise ValueError(f"{name} is {shown}, more than 2**60 bytes: give at most {MOST}")
    value = int(Decimal(found[1]) * factor)
    if value < least:
        raise ValueError(f"{name} is {shown}, which is {value} bytes: give at least {least}")
    return value


def _plain(size: float) -> str:
    """A number as digits; "" where it is not finite."""
    if isinstance(size, int) and size.bit_length() > 1000:
        return "-" * (size < 0) + f"1e{int(size.bit_length() * 0.301)}"
    if not math.isfinite(size):
        return ""
    return str(int(size)) if size >= 1 else str(size)
