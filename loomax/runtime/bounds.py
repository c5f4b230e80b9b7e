"""What holds of every setting of every verb: numbers are finite and seeds have 32 bits. No JAX."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

# JAX draws from 32 bits of a seed where it computes with 32-bit integers, and grain takes no more.
MOST_SEED = 2**32 - 1
MOST_INT = 2**63 - 1
# Of float32, which settings are computed with.
MOST_FLOAT = (2 - 2**-23) * 2.0**127


def check_settings(config: Any, spelled: str = "{}") -> None:
    """Refuses values of a dataclass that nothing can compute with, nested ones too.

    Floats are finite in float32, whole numbers fit into 64 bits, a `seed` (or `..._seed`) into 32
    bits without a sign, and texts hold no NUL, which no file's name may have.

    Args:
        spelled: how a message names a field, "--{}" on the command line.

    Raises:
        ValueError: naming the field, its value and the bound.
    """
    for path, value in leaves(config):
        fault = _fault(path.rpartition(".")[2], value)
        if fault:
            name = path.replace("_", "-") if spelled.startswith("--") else path
            raise ValueError(f"{spelled.format(name)} is {shorten(value)}: {fault}")


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field that holds no other dataclass, in tuples too."""
    if isinstance(config, tuple):
        for place, item in enumerate(config):
            yield from leaves(item, f"{prefix}.{place}" if prefix else str(place))
    elif dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            name = f"{prefix}.{field.name}" if prefix else field.name
            yield from leaves(getattr(config, field.name), name)
    else:
        yield prefix, config


def check_sizes(config: Any, prefix: str) -> None:
    """Raises ValueError where a number of a dataclass, nested ones too, is below 0."""
    for path, value in leaves(config, prefix):
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{path} is {shorten(value)}: give at least 0")


def check_seed(name: str, value: int) -> None:
    """Raises ValueError unless `value` can start every random generator that is used here."""
    if not 0 <= value <= MOST_SEED:
        raise ValueError(f"{name} is {shorten(value)}: give 0 to {MOST_SEED}")


def shorten(value: Any, most: int = 60) -> str:
    """A value as messages show it: one line, not much longer than `most` characters."""
    if isinstance(value, int) and value.bit_length() > 256:
        # More than 4,300 digits are not even printed by Python.
        return f"a number of {int(value.bit_length() * math.log10(2)) + 1} digits"
    text = str(value) if isinstance(value, int | float) else repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _fault(name: str, value: Any) -> str | None:
    """What is wrong with one value, and what to give."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        if name == "seed" or name.endswith("_seed"):
            return None if 0 <= value <= MOST_SEED else f"give 0 to {MOST_SEED}"
        return None if abs(value) <= MOST_INT else f"give {-MOST_INT} to {MOST_INT}"
    if isinstance(value, float):
        finite = abs(value) <= MOST_FLOAT  # also False for NaN
        return None if finite else f"give a finite number, of at most {MOST_FLOAT:.3g} in size"
    if isinstance(value, str) and "\0" in value:
        return "leave the NUL character out"
    return None
