"""Numbers of bytes as people write them. Imports no JAX."""

import re

UNITS = {"": 1, "B": 1}
UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)}
UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_FORM = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str | int) -> int:
    """Bytes of "15GiB", "900 MB", "1.5e9" or a whole number.

    Raises:
        ValueError: it is no number of bytes, or none above 0.
    """
    if isinstance(text, int):
        text = str(text)
    found = _FORM.fullmatch(text)
    units = {unit.lower(): factor for unit, factor in UNITS.items()}
    if found is None or found[2].lower() not in units:
        raise ValueError(f"{text!r} is no number of bytes: write 15GiB, 900MiB, 16GB or 1000000")
    value = int(float(found[1]) * units[found[2].lower()])
    if value < 1:
        raise ValueError(f"{text!r} is {value} bytes: give at least 1")
    return value
