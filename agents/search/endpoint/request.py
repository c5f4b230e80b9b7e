"""One sample of an endpoint, as agents know a request."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from loomax.agents.search.engine_protocol import Kind, Piece, Sampling


class EndpointRequest:
    """Gives what arrives; the job that it belongs to feeds it.

    Args:
        forced: the end of the prompt that belongs to what is read.
    """

    def __init__(
        self, prompt: Sequence[int], sampling: Sampling, kind: Kind, forced: Sequence[int] = ()
    ):
        self.prompt, self.sampling, self.kind = tuple(prompt), sampling, kind
        self.forced = tuple(forced)
        self.generated: list[int] = []
        self.wanted = True
        # Called when nobody wants more of it.
        self.ended: Callable[[], None] | None = None
        self._queue: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prompt and what followed it."""
        return (*self.prompt, *self.generated)

    def put(self, piece: Piece) -> None:
        """Adds what has arrived."""
        if self.wanted:
            self.generated += piece.tokens
            self._queue.put_nowait(piece)

    def finish(self, error: Exception | None = None) -> None:
        """There is no more of it, because of an error if there is one."""
        if self.wanted:
            self.wanted = False
            self._queue.put_nowait(error)

    def end(self) -> None:
        """Nobody wants more of it."""
        self.finish()
        if self.ended:
            self.ended()

    async def __aiter__(self) -> AsyncGenerator[Piece, None]:
        while (piece := await self._queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
