"""The samples of one HTTP request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from loomax.agents.search.endpoint.request import EndpointRequest
from loomax.agents.search.endpoint.wire import Delta
from loomax.agents.search.engine_protocol import EngineError, Piece
from loomax.agents.search.grammar.action import Answer, Event, ToolCall
from loomax.agents.search.grammar.grammar import Grammar


@dataclass(eq=False)
class Job:
    """Samples that are asked for together.

    Args:
        task: reads their stream; cancelled when none of them is wanted.
    """

    requests: list[EndpointRequest] = field(default_factory=list)
    task: asyncio.Task | None = None

    @property
    def running(self) -> int:
        """Samples that are wanted."""
        return sum(request.wanted for request in self.requests)

    def leave(self) -> None:
        """Called when a sample is not wanted any more."""
        if self.task and not self.running:
            self.task.cancel()

    def fail(self, error: BaseException) -> None:
        """Ends every sample."""
        told = error if isinstance(error, EngineError) else EngineError(_name(error))
        for request in self.requests:
            request.finish(told)


def piece_of(tokens: Sequence[int], logprob: float) -> Piece:
    """A piece whose least probable token is known, and the others as if they were certain."""
    return Piece(tuple(tokens), (logprob, *(0.0,) * (len(tokens) - 1)))


def closing(grammar: Grammar, written: str, delta: Delta, stops: Sequence[str]) -> str:
    """The stop string that ended a sample, which endpoints leave out of the text.

    Where the endpoint does not tell, it is the one that makes an action of what was written.
    """
    if delta.stop in stops:
        return delta.stop or ""
    for stop in stops if delta.finish == "stop" else ():
        parser = grammar.parser()
        parser.feed(written)
        if not parser.done and _acts(parser.feed(stop)):
            return stop
    return ""


def _acts(events: Sequence[Event]) -> bool:
    return any(isinstance(event, ToolCall | Answer) for event in events)


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
