"""An engine with continuous batching in virtual time; it costs what `step_s` says.

It is the `Engine` that search agents know, with a script in place of a model. Run it under
`loomax.agents.search.actions.clock.run_virtual`.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from os.path import commonprefix

from loomax.agents.search.engine_protocol import (
    EngineError,
    Kind,
    Load,
    Place,
    Sampling,
    StepRecord,
)
from loomax.agents.search.simulate.config import EngineConfig
from loomax.agents.search.simulate.pages import make_room, used
from loomax.agents.search.simulate.request import Script, SimulatedRequest
from loomax.agents.search.speculate import order


class SimulatedEngine:
    """Runs requests in slots.

    Args:
        script: what is generated.
    """

    def __init__(self, config: EngineConfig, script: Script):
        self.config = config
        self.decoded = self.prefilled = 0
        self._script = script
        self._held: list[SimulatedRequest] = []
        self._running: list[SimulatedRequest] = []
        self._waiting: list[SimulatedRequest] = []
        self._arrived, self._tokens_per_s = 0, 0.0
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[StepRecord], None]] = []

    @property
    def held(self) -> int:
        """Requests that have not been aborted."""
        return len(self._held)

    async def submit(
        self,
        tokens: Sequence[int],
        sampling: Sampling,
        *,
        kind: Kind = "main",
        parent: SimulatedRequest | None = None,
    ) -> SimulatedRequest:
        """See `Engine`."""
        prompt, shared = tuple(tokens), 0
        if self.config.prefix_cache and parent is not None and not parent.evicted:
            shared = _common(prompt, parent.tokens)
        return self._add(SimulatedRequest(self._ticket(kind), prompt, sampling, shared=shared))

    async def fork(
        self,
        request: SimulatedRequest,
        forced: Sequence[int],
        sampling: Sampling,
        *,
        at: Place = "prompt",
        kind: Kind = "draft",
    ) -> SimulatedRequest:
        """See `Engine`."""
        if request.aborted:
            raise EngineError("a request that was aborted has no pages to share")
        base = request.prompt if at == "prompt" else request.tokens
        sharing = (self.config.fork or self.config.prefix_cache) and not request.evicted
        return self._add(
            SimulatedRequest(
                self._ticket(kind),
                (*base, *forced),
                sampling,
                shared=len(base) if sharing else 0,
                parent=request if sharing else None,
            )
        )

    def halt(self, request: SimulatedRequest) -> None:
        """See `Engine`."""
        if not request.ended:
            request.end()
            self._changed.set()

    def abort(self, request: SimulatedRequest) -> None:
        """See `Engine`."""
        self.halt(request)
        request.aborted = True
        if request in self._held:
            self._held.remove(request)

    def load(self) -> Load:
        """See `Engine`; a page is one token."""
        waiting = sum(not request.ended for request in self._waiting)
        alive = [request for request in self._running if not request.ended]
        capacity = self.config.cache_tokens
        return Load(
            running=len(alive),
            waiting=waiting,
            slots=self.config.slots,
            free_pages=2**31 if capacity is None else capacity - self._used(),
            tokens_per_s=self._tokens_per_s,
            drafts=sum(request.kind == "draft" for request in (*alive, *self._waiting)),
        )

    def watch(self, listen: Callable[[StepRecord], None]) -> None:
        """See `Engine`."""
        self._listeners.append(listen)

    async def run(self) -> None:
        """Steps for ever; the task that runs this has to be cancelled."""
        while True:
            self._changed.clear()
            self._admit()
            if not self._running:
                await self._changed.wait()
                continue
            shares = self._share_chunk()
            decoding = [request for request in self._running if not request.prefill]
            step_s = self.config.step_s(len(decoding), sum(shares.values()))
            # Steps that are alike are taken at once, until something comes or goes.
            alike = 1 if shares else min(request.left for request in decoding)
            steps = await self._take(min(alike, self._room(len(decoding))), step_s)
            self._account(shares, decoding, steps, step_s)

    def _ticket(self, kind: Kind) -> order.Ticket:
        self._arrived += 1
        return order.Ticket(self._arrived, asyncio.get_running_loop().time(), kind)

    def _add(self, request: SimulatedRequest) -> SimulatedRequest:
        capacity = self.config.cache_tokens
        if capacity is not None and len(request.prompt) >= capacity:
            raise EngineError(f"a prompt of {len(request.prompt)} is over the cache's {capacity}")
        self._waiting.append(request)
        self._held.append(request)
        self._changed.set()
        return request

    def _used(self) -> int:
        return used(request for request in self._held if request not in self._waiting)

    def _admit(self) -> None:
        self._running = [request for request in self._running if not request.ended]
        self._waiting = [request for request in self._waiting if not request.ended]
        ready = {request.ticket: request for request in self._waiting if not request.blocked}
        tickets = [request.ticket for request in self._running]
        chosen = order.admit(self.config.order, list(ready), tickets, self.config.slots)
        for ticket in chosen:
            request = ready[ticket]
            request.evicted = False
            if not self._fits(request):
                request.evicted = True
                break
            self._waiting.remove(request)
            request.begin(self._script)
            self._running.append(request)
            if not request.left:
                request.end()
        self._running = [request for request in self._running if not request.ended]
        self._make_room()

    def _fits(self, request: SimulatedRequest) -> bool:
        """Whether there is room for a prompt, or nobody who could make some."""
        capacity = self.config.cache_tokens
        if capacity is None or not self._running:
            return True
        return self._used() + request.owned + len(self._running) + 1 <= capacity

    def _make_room(self) -> None:
        capacity = self.config.cache_tokens
        if capacity is not None:
            settled = [request for request in self._held if request not in self._waiting]
            needed = len(self._running)
            self._waiting += make_room(settled, self._running, needed, capacity)

    def _room(self, decoding: int) -> int:
        """Steps for which the cache is large enough."""
        capacity = self.config.cache_tokens
        if capacity is None or not decoding:
            return 2**31
        return max(1, (capacity - self._used()) // decoding)

    def _share_chunk(self) -> dict[SimulatedRequest, int]:
        """Prompt tokens of this step, first come first served."""
        left, shares = self.config.chunk, {}
        for request in self._running:
            if request.prefill and left:
                shares[request] = min(request.prefill, left)
                left -= shares[request]
        return shares

    async def _take(self, alike: int, step_s: float) -> int:
        """Lets the time of up to `alike` steps pass; returns how many whole ones there were."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        if alike > 1:
            try:
                async with asyncio.timeout(alike * step_s):
                    await self._changed.wait()
            except TimeoutError:
                return alike
        # The step that is under way ends before anything changes. The tiny part less is for
        # times that are a whole number of steps but for rounding.
        steps = min(alike, max(1, math.ceil((loop.time() - start) / step_s - 1e-9)))
        await asyncio.sleep(max(0.0, start + steps * step_s - loop.time()))
        return steps

    def _account(
        self,
        shares: dict[SimulatedRequest, int],
        decoding: list[SimulatedRequest],
        steps: int,
        step_s: float,
    ) -> None:
        for request, tokens in shares.items():
            request.prefill -= tokens
            self.prefilled += tokens
        for request in decoding:
            if not request.ended:
                request.grow(steps)
                self.decoded += steps
        self._tokens_per_s = len(decoding) / step_s
        record = StepRecord(len(decoding), sum(shares.values()), step_s, steps)
        for listen in self._listeners:
            listen(record)


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Tokens with which both begin."""
    least = min(len(one), len(other))
    # Nearly always one goes on where the other ends, and comparing whole tuples is fast.
    return least if one[:least] == other[:least] else len(commonprefix([one, other]))
