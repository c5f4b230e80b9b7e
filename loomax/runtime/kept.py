"""Results of slow work that are kept as JSON, to be read instead of made again."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from loomax.runtime.files import atomic_write

T = TypeVar("T")


def recall(path: Path | None, make: Callable[..., T]) -> T | None:
    """`make(**fields)` of what is there; None if nothing whole is, or nothing is kept."""
    if path is None:
        return None
    try:
        return make(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(path: Path | None, result: Any) -> None:
    """Keeps the fields of a dataclass; a folder that cannot be written costs time, never a run."""
    if path is None:
        return
    try:
        atomic_write(path, json.dumps(dataclasses.asdict(result)) + "\n")
    except OSError:
        return
