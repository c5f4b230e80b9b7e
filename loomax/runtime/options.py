"""Kinds of options: what `Annotated` says of a verb's field is checked as soon as it is parsed.

    batch: AtLeastOne = 1
    json: OutFile | None = None

Imports no JAX.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from loomax.runtime.bounds import shorten
from loomax.runtime.places import check_file, check_folder, check_source


@dataclass(frozen=True)
class Bound:
    """A number is at least `least`, or above it, and at most `most`."""

    least: float
    most: float = math.inf
    above: bool = False

    def check(self, value: float, name: str) -> None:
        """Raises ValueError naming the value, the bound and the fix."""
        if not self.least <= value <= self.most or (self.above and value == self.least):
            low = f"more than {self.least:g}" if self.above else f"at least {self.least:g}"
            high = f" and at most {self.most:g}" if self.most < math.inf else ""
            raise ValueError(f"{name} is {shorten(value)}: give {low}{high}")


@dataclass(frozen=True)
class Place:
    """A file is written there, a folder with files in it, or something is read."""

    kind: Literal["file", "folder", "source"]

    def check(self, value: str, name: str) -> None:
        """Raises ValueError where that cannot be done."""
        CHECKS[self.kind](value, name)


CHECKS = {"file": check_file, "folder": check_folder, "source": check_source}


AtLeastOne = Annotated[int, Bound(1)]
NotNegative = Annotated[int, Bound(0)]
Positive = Annotated[float, Bound(0, above=True)]
OutFile = Annotated[str, Place("file")]
OutFolder = Annotated[str, Place("folder")]
Source = Annotated[str, Place("source")]


def marks_of(hint: Any) -> list[Bound | Place]:
    """What an annotation says of its values, inside of unions and tuples too."""
    own = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Bound | Place)]
    return own + [mark for part in get_args(hint) for mark in marks_of(part)]
