"""The samples of one HTTP request in the engine; none of them outlives it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from loomax.agents.search.engine_protocol import Engine, Kind, Piece, Request, Sampling


@dataclass(frozen=True)
class Sample:
    """One answer that is asked for.

    Args:
        prompt: token ids; neighbours with equal ones share their pages.
    """

    prompt: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True)
class Arrival:
    """What came of one sample.

    Args:
        piece: None at its end.
        error: because of which there is no more.
    """

    index: int
    piece: Piece | None = None
    error: Exception | None = None


class Generation:
    """Use as `async with`; leaving it aborts every sample.

    Raises:
        EngineError: on entering or from `arrivals`; the engine gave a sample up.
    """

    def __init__(self, engine: Engine, samples: Sequence[Sample], kind: Kind):
        self._engine, self._samples, self._kind = engine, samples, kind
        self._requests: list[Request] = []
        self._pumps: list[asyncio.Task] = []
        self._open: set[int] = set()
        self._queue: asyncio.Queue[Arrival] = asyncio.Queue()

    async def __aenter__(self) -> "Generation":
        try:
            for number in range(len(self._samples)):
                self._requests.append(await self._request(number))
        except BaseException:
            self._abort()
            raise
        self._open = set(range(len(self._requests)))
        self._pumps = [asyncio.create_task(self._pump(index)) for index in self._open]
        return self

    async def __aexit__(self, *_: object) -> None:
        for pump in self._pumps:
            pump.cancel()
        self._abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def end(self, index: int) -> None:
        """Lets a sample generate no more; what still comes of it is not given."""
        if index in self._open:
            self._open.discard(index)
            self._pumps[index].cancel()
            self._engine.halt(self._requests[index])

    async def arrivals(self) -> AsyncGenerator[list[Arrival], None]:
        """What comes, until every sample has ended; what came together is given together."""
        while self._open:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            batch = [arrival for arrival in batch if arrival.index in self._open]
            for arrival in batch:
                if arrival.error is not None:
                    raise arrival.error
            self._open -= {arrival.index for arrival in batch if arrival.piece is None}
            yield batch

    async def _request(self, number: int) -> Request:
        sample = self._samples[number]
        if number and sample.prompt == self._samples[number - 1].prompt:
            before = self._requests[number - 1]
            return await self._engine.fork(before, (), sample.sampling, kind=self._kind)
        return await self._engine.submit(sample.prompt, sample.sampling, kind=self._kind)

    async def _pump(self, index: int) -> None:
        try:
            async with aclosing(self._requests[index].__aiter__()) as pieces:
                async for piece in pieces:
                    self._queue.put_nowait(Arrival(index, piece))
            self._queue.put_nowait(Arrival(index))
        except Exception as error:
            self._queue.put_nowait(Arrival(index, error=error))

    def _abort(self) -> None:
        for request in self._requests:
            self._engine.abort(request)
