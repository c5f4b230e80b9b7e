"""What an agent needs of a grammar."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from loomax.agents.search.grammar.action import Event, Malformed, ToolCall
from loomax.agents.search.retrieval.document import Document


@runtime_checkable
class Parser(Protocol):
    """Reads one turn as it arrives; how it is cut into pieces changes nothing."""

    @property
    def done(self) -> bool:
        """Whether the turn has ended; what is fed after that is not read."""
        ...

    def feed(self, piece: Any) -> list[Event]:
        """The events that this piece completes."""
        ...

    def finish(self) -> list[Event]:
        """The events that the end of the output completes, at least one if there was no action."""
        ...


@runtime_checkable
class Grammar(Protocol):
    """Both directions of one way to write actions: text (`str`) or messages (`dict`)."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings after which the model has nothing more to say in this turn."""
        ...

    def parser(self) -> Parser:
        """A parser for one turn."""
        ...

    def observe(self, call: ToolCall, documents: Sequence[Document]) -> Any:
        """What the model reads after its call; there may be no documents."""
        ...

    def correct(self, fault: Malformed) -> Any:
        """What the model reads after a fault."""
        ...
