"""What an answer is made of, as it arrives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Content:
    """Text for the user."""

    text: str


@dataclass(frozen=True)
class Thought:
    """Reasoning."""

    text: str


@dataclass(frozen=True)
class CallStart:
    """A tool call begins.

    Args:
        index: of the call within the answer.
    """

    index: int
    name: str


@dataclass(frozen=True)
class CallArguments:
    """A piece of a call's arguments, which together are JSON."""

    index: int
    text: str


Delta = Content | Thought | CallStart | CallArguments


@runtime_checkable
class OutputReader(Protocol):
    """Reads the text of one answer; how it is cut into pieces does not change what is read."""

    @property
    def calls(self) -> int:
        """Tool calls that are complete."""
        ...

    def feed(self, text: str) -> Sequence[Delta]:
        """What this text adds."""
        ...

    def finish(self) -> Sequence[Delta]:
        """What the end of the text adds."""
        ...


class PlainReader:
    """Everything is content."""

    calls = 0

    def feed(self, text: str) -> Sequence[Delta]:
        """See `OutputReader`."""
        return (Content(text),) if text else ()

    def finish(self) -> Sequence[Delta]:
        """See `OutputReader`."""
        return ()
