"""What a rematerialisation policy is called. Imports no JAX: configurations check theirs here."""

from collections.abc import Sequence
from typing import Any

from loomax.runtime.config import unknown

PLAIN = ("none", "full", "dots")
WITH_VALUE = ("keep", "names", "offload")
EXAMPLES = "none, full, dots, keep:2, names:attn_out or offload:attn_out"


def check_policy(spec: Any, known: Sequence[str] | None = None) -> None:
    """Refuses what is no policy (`loomax.memory.schedule.policy` says what each does).

    Args:
        known: names that may be asked for, such as those of a family of models; None: any.

    Raises:
        ValueError: naming what was given and what can be.
    """
    if not isinstance(spec, str):
        hint = {True: "'full'", False: "'none'"}.get(spec, EXAMPLES)
        raise ValueError(f"remat is {spec!r}: give a word: {hint}")
    word, colon, value = spec.partition(":")
    if word not in (WITH_VALUE if colon else PLAIN):
        if word in WITH_VALUE:
            raise ValueError(f"remat is {spec!r}: {word} needs a value, as in {EXAMPLES}")
        raise ValueError(f"remat is {spec!r}: {unknown('policy', word, PLAIN + WITH_VALUE)}")
    if word == "keep" and not value.isdecimal():
        raise ValueError(f"remat is {spec!r}: keep needs a count of 0 or more, as in keep:2")
    if colon and not all(names_of(value)):
        raise ValueError(f"remat is {spec!r}: a name is empty: separate names by commas")
    if word in ("names", "offload") and known is not None:
        for name in names_of(value):
            if name not in known:
                raise ValueError(f"remat is {spec!r}: {unknown('value', name, known)}")


def names_of(value: str) -> tuple[str, ...]:
    """The names behind "names:" or "offload:"."""
    return tuple(name.strip() for name in value.split(","))
