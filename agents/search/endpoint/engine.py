"""An OpenAI-compatible endpoint as an `Engine`.

There is no fork: drafts of one turn are one more request with n samples, all of them at the
highest temperature that any of them was to have. There are no pages: a request that is halted or
aborted closes its connection, at which most servers stop. The load is what the time to the first
token tells, see `Traffic`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import httpx

from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.endpoint.job import Job, closing, piece_of
from loomax.agents.search.endpoint.request import EndpointRequest
from loomax.agents.search.endpoint.sse import EventReader
from loomax.agents.search.endpoint.stream import Streams
from loomax.agents.search.endpoint.table import Table
from loomax.agents.search.endpoint.traffic import Traffic
from loomax.agents.search.endpoint.wire import Delta, body, read_event
from loomax.agents.search.engine_protocol import (
    EngineError,
    Kind,
    Load,
    Place,
    Sampling,
    StepRecord,
)
from loomax.agents.search.grammar.grammar import Grammar
from loomax.agents.search.grammar.openai_tools import SEARCH

Group = tuple[int, tuple[int, ...], int, tuple[str, ...], Kind]


class EndpointEngine:
    """Belongs to one event loop; use as `async with`.

    Args:
        table: the one of the codec.
        grammar: the one of the agents, which knows where a text with tags was stopped.
        opening: of the codec.
        tools: of a chat; a draft calls the first one.
        client: connections, which stay open; None makes some.
        seed: of the waits between attempts.
    """

    def __init__(
        self,
        config: EndpointConfig,
        table: Table,
        grammar: Grammar,
        *,
        opening: Sequence[int] = (),
        tools: Sequence[Mapping[str, Any]] = (SEARCH,),
        client: httpx.AsyncClient | None = None,
        seed: int = 0,
    ):
        self._config, self._table, self._grammar = config, table, grammar
        self._tools, self._opening = tuple(tools), tuple(opening)
        self._own, self._client = client is None, client or httpx.AsyncClient()
        self._traffic = Traffic(config.slots, config.full)
        self._streams = Streams(config, self._traffic, self._client, seed)
        self._jobs: list[Job] = []
        self._groups: dict[Group, Job] = {}
        self._listeners: list[Callable[[StepRecord], None]] = []

    async def __aenter__(self) -> "EndpointEngine":
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [job.task for job in self._jobs if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._own:
            await self._client.aclose()

    async def submit(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        kind: Kind = "main",
        parent: EndpointRequest | None = None,
    ) -> EndpointRequest:
        """See `Engine`. Errors come from the iteration; a parent changes nothing."""
        del parent
        count = len(self._opening)
        forced = self._opening if count and tuple(tokens[-count:]) == self._opening else ()
        request = EndpointRequest(tokens, sampling, kind, forced)
        job = Job()
        self._join(job, request)
        self._begin(job)
        return request

    async def fork(
        self,
        request: EndpointRequest,
        forced: Sequence[int],
        sampling: Sampling,
        *,
        at: Place = "prompt",
        kind: Kind = "draft",
    ) -> EndpointRequest:
        """See `Engine`. What is forked at one moment in one way is asked for together."""
        base = request.prompt if at == "prompt" else request.tokens
        made = EndpointRequest((*base, *forced), sampling, kind, forced)
        group = (id(request), made.prompt, sampling.most, sampling.stops, kind)
        if group not in self._groups:
            self._groups[group] = Job()
            asyncio.get_running_loop().call_soon(self._close_group, group)
        self._join(self._groups[group], made)
        return made

    def halt(self, request: EndpointRequest) -> None:
        """See `Engine`."""
        request.end()

    def abort(self, request: EndpointRequest) -> None:
        """See `Engine`."""
        request.end()

    def load(self) -> Load:
        """See `Engine`: own requests, and as waiting what the endpoint's slowness tells."""
        wanted = [request for job in self._jobs for request in job.requests if request.wanted]
        drafts = sum(request.kind in ("draft", "score") for request in wanted)
        return self._traffic.load(len(wanted), drafts)

    def watch(self, listen: Callable[[StepRecord], None]) -> None:
        """See `Engine`. A step is the time between two events of a stream."""
        self._listeners.append(listen)

    def _join(self, job: Job, request: EndpointRequest) -> None:
        job.requests.append(request)
        request.ended = job.leave

    def _close_group(self, group: Group) -> None:
        job = self._groups.pop(group)
        if job.running:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        self._jobs.append(job)
        job.task = asyncio.create_task(self._run(job))
        # Also when it is cancelled before it has begun.
        job.task.add_done_callback(lambda _: self._jobs.remove(job))

    async def _run(self, job: Job) -> None:
        try:
            await self._read(job)
        except Exception as error:
            job.fail(error)

    async def _read(self, job: Job) -> None:
        """Hands what the stream brings to the samples.

        Raises:
            EngineError: the endpoint gave none, or broke off.
        """
        first, samples = job.requests[0], job.requests
        temperature = max(request.sampling.temperature for request in samples)
        asked = body(
            self._config,
            self._table,
            self._tools,
            first.prompt,
            replace(first.sampling, temperature=temperature),
            count=len(samples),
            kind=first.kind,
        )
        start, left = asyncio.get_running_loop().time(), dict(enumerate(samples))
        async with self._streams.open(asked, urgent=first.kind == "main") as response:
            last, arriving = start, cast(AsyncGenerator[bytes, None], response.aiter_bytes())
            reader = EventReader()
            async with aclosing(arriving) as pieces:
                while left:
                    for data in reader.feed(await self._next(pieces)):
                        deltas = read_event(self._config, data)
                        if any(delta.text for delta in deltas):
                            last = self._observe(start, last)
                        for delta in deltas:
                            self._take(left, delta)

    async def _next(self, pieces: AsyncGenerator[bytes, None]) -> bytes:
        """The next bytes, in time."""
        try:
            async with asyncio.timeout(self._config.silence_s):
                return await anext(pieces)
        except StopAsyncIteration:
            raise EngineError("the stream broke off") from None
        except TimeoutError:
            raise EngineError(f"nothing came for {self._config.silence_s} s") from None
        except httpx.HTTPError as error:
            raise EngineError(f"the stream broke off: {type(error).__name__}") from None

    def _observe(self, start: float, last: float) -> float:
        """Learns of the moment at which something came."""
        now = asyncio.get_running_loop().time()
        if last == start:
            self._traffic.first(now - start)
            return now
        running = sum(job.running for job in self._jobs)
        self._traffic.tokens_per_s = running / max(now - last, 1e-6)
        for listen in self._listeners:
            listen(StepRecord(running, 0, now - last))
        return now

    def _take(self, left: dict[int, EndpointRequest], delta: Delta) -> None:
        """Hands a delta to its sample, which leaves `left` with its last one."""
        request = left.get(delta.index)
        if request is None:
            return
        tokens = [self._table.number(delta.text)] if delta.text else []
        if delta.finish and self._config.api == "completions" and request.sampling.stops:
            written = "".join(self._table.pieces([*request.forced, *request.generated]))
            end = closing(self._grammar, written + delta.text, delta, request.sampling.stops)
            tokens += [self._table.number(end)] if end else []
        if tokens:
            request.put(piece_of(tokens, delta.logprob))
        if delta.finish:
            left.pop(delta.index).finish()
