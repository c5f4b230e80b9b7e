"""One request of the simulated engine."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from loomax.agents.search.engine_protocol import EngineError, Kind, Piece, Sampling
from loomax.agents.search.speculate.order import Ticket

# (tokens of the context, sampling) -> tokens that follow and their log-probabilities. It must
# depend on nothing else.
Script = Callable[[tuple[int, ...], Sampling], tuple[Sequence[int], Sequence[float]]]


class SimulatedRequest:
    """Iterating over it gives pieces until it has ended.

    Args:
        prompt: tokens of the context.
        shared: of these are in the cache already.
        parent: a request whose prompt has to be prefilled before this one can begin.
    """

    def __init__(
        self,
        ticket: Ticket,
        prompt: tuple[int, ...],
        sampling: Sampling,
        *,
        shared: int = 0,
        parent: "SimulatedRequest | None" = None,
    ):
        self.ticket, self.prompt, self.sampling, self.parent = ticket, prompt, sampling, parent
        self.shared = shared if parent is not None else 0
        self.prefill = max(1, len(prompt) - shared)
        self.reply: tuple[int, ...] | None = None
        self.logprobs: tuple[float, ...] = ()
        self.generated = 0
        self.ended = self.aborted = self.evicted = False
        self._error: EngineError | None = None
        self._sent = 0
        self._changed = asyncio.Event()

    @property
    def kind(self) -> Kind:
        return self.ticket.kind

    @property
    def tokens(self) -> tuple[int, ...]:
        """The context and what was generated."""
        return self.prompt + (self.reply or ())[: self.generated]

    @property
    def owned(self) -> int:
        """Tokens in pages that no other request pays for."""
        return 0 if self.evicted else len(self.prompt) - self.shared + self.generated

    @property
    def left(self) -> int:
        """Tokens that are still to be generated."""
        return len(self.reply or ()) - self.generated

    @property
    def blocked(self) -> bool:
        """Whether the pages that it shares are not filled yet."""
        parent = self.parent
        if parent is None or not parent.prefill:
            return False
        if parent.ended or parent.aborted:
            # Nobody will fill them: this request has to.
            self.parent, self.shared, self.prefill = None, 0, len(self.prompt)
            return False
        return True

    def begin(self, script: Script) -> None:
        """Fixes what will be generated."""
        if self.reply is None:
            tokens, logprobs = script(self.prompt, self.sampling)
            self.reply = tuple(tokens)[: self.sampling.most]
            self.logprobs = tuple(logprobs)[: self.sampling.most]

    def grow(self, tokens: int) -> None:
        """Generates some tokens."""
        self.generated += tokens
        if not self.left:
            self.ended = True
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
            first, self._sent = self._sent, self.generated
            if first < self._sent and self.reply is not None:
                reply = self.reply[first : self._sent]
                yield Piece(reply, self.logprobs[first : self._sent])
                continue
            if self._error is not None:
                raise self._error
            if self.ended:
                return
            await self._changed.wait()
