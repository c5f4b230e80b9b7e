"""Results that a stage in the background has yet to give."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Deferred:
    """One output of work in the background.

    Args:
        index: among the outputs.
    """

    work: Future
    index: int


def settled(x: Any) -> Any:
    """A value; one that is deferred is waited for.

    Raises:
        StageError: the stage failed.
    """
    return x.work.result()[x.index] if isinstance(x, Deferred) else x
