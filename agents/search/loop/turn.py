"""What a model writes in one turn, read up to its action."""

import math
from collections.abc import Sequence
from contextlib import aclosing

from loomax.agents.search.actions.canonical import canonical_key
from loomax.agents.search.engine_protocol import Request
from loomax.agents.search.grammar.action import (
    Answer,
    Event,
    Malformed,
    Reasoning,
    ToolCall,
)
from loomax.agents.search.grammar.grammar import Grammar, Parser
from loomax.agents.search.loop.codec import Codec, Reader


class Turn:
    """A turn while and after it is read.

    What comes after the action is dropped, however the engine cuts its output into pieces, so
    pieces make no difference to the run.

    Args:
        forced: tokens before those that are generated; they are read, too.
        most: tokens that are read at most.
    """

    def __init__(self, grammar: Grammar, codec: Codec, most: int, forced: Sequence[int] = ()):
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.events: list[Event] = []
        self._grammar, self._codec = grammar, codec
        self._most, self._forced = most, tuple(forced)

    async def read(self, request: Request) -> "Turn":
        """Reads to the end of the turn, and gives it back.

        Raises:
            EngineError: the engine gave the request up.
        """
        parser, reader = self._grammar.parser(), self._codec.reader()
        self._feed(parser, reader, self._forced)
        # Closed at once, and not by the garbage collector some time later.
        async with aclosing(request.__aiter__()) as pieces:
            async for piece in pieces:
                before = len(self.tokens)
                self.tokens += piece.tokens[: self._most - before]
                self.logprobs += piece.logprobs[: self._most - before]
                self._feed(parser, reader, self.tokens[before:])
                if parser.done:
                    self._cut(before)
                if parser.done or len(self.tokens) >= self._most:
                    break
        for last in reader.finish():
            self.events += parser.feed(last)
        self.events += parser.finish()
        return self

    @property
    def actions(self) -> list[ToolCall | Answer | Malformed]:
        """Everything but reasoning, in order."""
        return [event for event in self.events if not isinstance(event, Reasoning)]

    @property
    def confidence(self) -> float:
        """The least probability of a token; 0 if there is none."""
        return math.exp(min(self.logprobs, default=-math.inf))

    def _feed(self, parser: Parser, reader: Reader, tokens: Sequence[int]) -> None:
        for piece in reader.feed(tokens):
            self.events += parser.feed(piece)

    def _cut(self, before: int) -> None:
        """Drops the tokens after the action, which is complete with one after `before`."""
        least, most = before + 1, len(self.tokens)
        # An engine that knows where to stop ends right there.
        guess = most - 1
        while least < most:
            if self._complete(guess):
                most = guess
            else:
                least = guess + 1
            guess = (least + most) // 2
        del self.tokens[most:], self.logprobs[most:]

    def _complete(self, count: int) -> bool:
        """Whether that many tokens hold an action."""
        parser, reader = self._grammar.parser(), self._codec.reader()
        for piece in reader.feed((*self._forced, *self.tokens[:count])):
            parser.feed(piece)
        return parser.done


def key_of(call: ToolCall) -> str:
    """Equal for calls that ask the same; arguments that are not JSON equal nothing."""
    try:
        return canonical_key(call.tool, call.arguments, "")
    except ValueError:
        return ""
