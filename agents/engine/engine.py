"""The engine: the protocol of `agents/search/engine_protocol`, on a model of `models/lm`.

    async with Engine(model, params, EngineConfig()) as engine:
        request = await engine.submit(tokens, Sampling(64))
        async for piece in request:
            ...
        engine.abort(request)

Steps run in a thread of their own, so the event loop is free while the device computes. All
accounts are kept on the event loop.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os.path import commonprefix

from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.device import Device
from loomax.agents.engine.memory import Memory
from loomax.agents.engine.policy import FirstCome, Policy
from loomax.agents.engine.request import EngineRequest
from loomax.agents.engine.scheduler import Scheduler
from loomax.agents.engine.speculative.guess import Guesser
from loomax.agents.engine.stops import Pieces, Stops
from loomax.agents.search.engine_protocol import (
    EngineError,
    Kind,
    Load,
    Place,
    Sampling,
    StepRecord,
)
from loomax.agents.search.speculate.order import Ticket
from loomax.models.lm import LMConfig

# Share of the newest step in the tokens per second that `load` tells.
NEWEST = 0.1


class Engine:
    """Generates tokens for many requests at once.

    Args:
        words: turns tokens into text, for requests with stops.
        policy: who gets a slot and who gives way; first come, first served by default.
        drafter: configuration and parameters of a small model that guesses tokens.
        mesh: that parameters and all that is cached are spread over; see `sharding`.

    Raises:
        ValueError: models, sizes and mesh do not go together.
    """

    def __init__(
        self,
        model: LMConfig,
        params: PyTree,
        config: EngineConfig | None = None,
        *,
        words: Pieces | None = None,
        policy: Policy | None = None,
        drafter: tuple[LMConfig, PyTree] | None = None,
        mesh: Mesh | None = None,
    ):
        self.config = config or EngineConfig()
        self.device = Device(model, params, self.config, drafter, mesh)
        self.memory = Memory(self.config, recurrent=self.device.recurrent)
        guesser = Guesser(self.config.speculative)
        self.scheduler = Scheduler(self.config, self.memory, policy or FirstCome(), guesser)
        self._vocab, self._words = model.vocab, words
        self._arrived, self._tokens_per_s = 0, 0.0
        self._closed = ""
        self._task: asyncio.Task | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loomax-engine")
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[StepRecord], None]] = []

    async def __aenter__(self) -> "Engine":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def warm_up(self) -> None:
        """Compiles every step; afterwards nothing is compiled any more."""
        self.device.warm_up()

    async def submit(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        kind: Kind = "main",
        parent: EngineRequest | None = None,
    ) -> EngineRequest:
        """See `Engine` in `engine_protocol`.

        Raises:
            EngineError: it is closed, or there is no room for so many tokens.
            ValueError: a token is not in the vocabulary, or stops without a tokenizer.
        """
        request = self._new(tokens, sampling, kind)
        if parent is not None:
            self.memory.inherit(request, parent, _common(request.tokens, parent.tokens))
        return self._add(request)

    async def fork(
        self,
        request: EngineRequest,
        forced: Sequence[int],
        sampling: Sampling,
        *,
        at: Place = "prompt",
        kind: Kind = "draft",
    ) -> EngineRequest:
        """See `Engine` in `engine_protocol`.

        Raises:
            EngineError: see `submit`; or the request was aborted or is not of this engine.
        """
        if request not in self.scheduler.held:
            raise EngineError(
                f"request {request.ticket.number} is not held here: it was aborted or is of "
                "another engine; fork it before it is aborted"
            )
        base = request.prompt if at == "prompt" else len(request.tokens)
        child = self._new((*request.tokens[:base], *forced), sampling, kind)
        self.memory.inherit(child, request, base)
        # The last generated token is computed only when it is needed.
        awaited = base if at == "prompt" else base - 1
        if request.computed < awaited and not request.ended:
            child.awaits = (request, awaited)
        return self._add(child)

    def halt(self, request: EngineRequest) -> None:
        """See `Engine` in `engine_protocol`."""
        request.end()
        self._changed.set()

    def abort(self, request: EngineRequest) -> None:
        """See `Engine` in `engine_protocol`."""
        self.scheduler.abort(request)
        self._changed.set()

    def load(self) -> Load:
        """See `Engine` in `engine_protocol`."""
        running = [request for request in self.scheduler.running if not request.ended]
        waiting = [request for request in self.scheduler.waiting if not request.ended]
        return Load(
            running=len(running),
            waiting=len(waiting),
            slots=self.config.slots,
            free_pages=self.memory.free,
            tokens_per_s=self._tokens_per_s if running else 0.0,
            drafts=sum(request.kind == "draft" for request in (*running, *waiting)),
        )

    @property
    def fault(self) -> str:
        """Why no request is taken any more; "" while they are."""
        return self._closed

    def watch(self, listen: Callable[[StepRecord], None]) -> None:
        """See `Engine` in `engine_protocol`."""
        self._listeners.append(listen)

    async def drain(self) -> None:
        """Takes no more requests and returns when all have ended; for SIGTERM, before `close`."""
        self._refuse("the engine is draining and takes no more requests; send it elsewhere")
        while not all(request.ended for request in self.scheduler.held):
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Ends every request with an error and stops. Twice is once."""
        self._refuse("the engine is closed")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end_all("the engine was closed")
        # The step that is under way ends first.
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    def _refuse(self, why: str) -> None:
        self._closed = self._closed or why

    def _end_all(self, why: str) -> None:
        for request in list(self.scheduler.held):
            request.end(why)
            self.scheduler.abort(request)

    def _new(self, tokens: Sequence[int], sampling: Sampling, kind: Kind) -> EngineRequest:
        if self._closed:
            raise EngineError(self._closed)
        self._check(tokens, sampling)
        self._arrived += 1
        ticket = Ticket(self._arrived, asyncio.get_running_loop().time(), kind)
        stops = Stops(sampling.stops, self.config.ends, self._words)
        return EngineRequest(ticket, tokens, sampling, stops)

    def _check(self, tokens: Sequence[int], sampling: Sampling) -> None:
        if not tokens:
            raise ValueError("a prompt of 0 tokens has nothing to go on from; give at least 1")
        if min(tokens) < 0 or max(tokens) >= self._vocab:
            raise ValueError(
                f"tokens go from {min(tokens)} to {max(tokens)}; the vocabulary has 0 to "
                f"{self._vocab - 1}"
            )
        config, total = self.config, len(tokens) + sampling.most
        if total > config.context:
            raise EngineError(
                f"a prompt of {len(tokens)} tokens and {sampling.most} behind it are over the "
                f"context of {config.context}; shorten it, ask for less, or raise `context`"
            )
        if config.pages_of(total) > config.pages:
            raise EngineError(
                f"{total} tokens need {config.pages_of(total)} pages and there are {config.pages}; "
                "shorten the prompt, ask for less, or raise `pages`"
            )

    def _add(self, request: EngineRequest) -> EngineRequest:
        self.scheduler.add(request)
        self._changed.set()
        return request

    async def _run(self) -> None:
        """Steps for ever."""
        try:
            while True:
                self._changed.clear()
                if not await self._step():
                    await self._changed.wait()
        except Exception as error:
            self._refuse(f"the engine broke: {error!r}")
            self._end_all(self._closed)
            raise

    async def _step(self) -> bool:
        """One step; False if there is nothing to do."""
        start = time.perf_counter()
        work = self.scheduler.plan()
        if work is None:
            return False
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._thread, self.device.run, work)
        generated = sum(len(result.tokens) for found in results for result in found)
        decoding, prefilled = self.scheduler.account(work, results)
        seconds = time.perf_counter() - start
        if work.calls:
            self._tokens_per_s += NEWEST * (generated / seconds - self._tokens_per_s)
            record = StepRecord(decoding, prefilled, seconds)
            for listen in self._listeners:
                listen(record)
        return True


def _common(one: list[int], other: list[int]) -> int:
    """Tokens with which both begin."""
    least = min(len(one), len(other))
    # Nearly always one goes on where the other ends, and comparing whole lists is fast.
    return least if one[:least] == other[:least] else len(commonprefix([one, other]))
