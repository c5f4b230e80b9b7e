"""One request: its tokens, what it holds, and the iteration over what it generates."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from loomax.agents.engine.stops import Stops
from loomax.agents.search.engine_protocol import EngineError, Kind, Piece, Sampling
from loomax.agents.search.speculate.order import Ticket


class EngineRequest:
    """Iterating over it gives pieces until it has ended.

    Args:
        prompt: tokens of the context.
        stops: says which token is the last one.
    """

    def __init__(self, ticket: Ticket, prompt: Sequence[int], sampling: Sampling, stops: Stops):
        self.ticket, self.sampling = ticket, sampling
        self.tokens, self.prompt = list(prompt), len(prompt)
        self.logprobs: list[float] = []
        # Tokens whose keys and values are in `pages`; all of them once there is a slot.
        self.computed = 0
        self.pages: list[int] = []
        # Snapshots of the recurrent states, by the number of tokens before them.
        self.snapshots: dict[int, int] = {}
        self.slot: int | None = None
        # A request that will have computed what this one shares with it, and how much that is.
        self.awaits: tuple[EngineRequest, int] | None = None
        self.published = self.ended = self.aborted = False
        self._stops = stops
        self._error: EngineError | None = None
        self._sent = 0
        self._changed = asyncio.Event()

    @property
    def kind(self) -> Kind:
        """Its class in the queue."""
        return self.ticket.kind

    @property
    def pending(self) -> int:
        """Tokens that are not computed yet."""
        return len(self.tokens) - self.computed

    @property
    def left(self) -> int:
        """Tokens that may still be generated."""
        return self.sampling.most - len(self.logprobs)

    def push(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Appends generated tokens up to the one that ends the output."""
        for token, logprob in zip(tokens, logprobs, strict=True):
            if self.ended:
                break
            self.tokens.append(token)
            self.logprobs.append(logprob)
            self.ended = not self.left or self._stops.last(token)
        self._changed.set()

    def end(self, error: str = "") -> None:
        """Ends it, with an error if one is named."""
        if not self.ended:
            self.ended = True
            self._error = EngineError(error) if error else None
        self._changed.set()

    async def __aiter__(self) -> AsyncGenerator[Piece, None]:
        while True:
            self._changed.clear()
            first, self._sent = self._sent, len(self.logprobs)
            if first < self._sent:
                tokens = self.tokens[self.prompt + first : self.prompt + self._sent]
                yield Piece(tuple(tokens), tuple(self.logprobs[first : self._sent]))
                continue
            if self._error is not None:
                raise self._error
            if self.ended:
                return
            await self._changed.wait()
