"""An engine with continuous batching in virtual time; it costs what `step_s` says.

Run it under `loomax.agents.search.actions.clock.run_virtual`.
"""

import asyncio
import heapq
import math
from dataclasses import dataclass, field

from loomax.agents.search.simulate.config import EngineConfig


@dataclass(eq=False)
class _Job:
    prefill: int
    decode: int
    done: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False


class SimulatedEngine:
    """Runs requests in slots; those of a lower priority number first, then in order of arrival."""

    def __init__(self, config: EngineConfig):
        self.config = config
        self.decoded = self.prefilled = 0
        self._running: list[_Job] = []
        self._waiting: list[tuple[int, int, _Job]] = []
        self._arrived = 0
        self._changed = asyncio.Event()

    @property
    def load(self) -> int:
        """Requests that run or wait."""
        return len(self._running) + sum(not job.gone for _, _, job in self._waiting)

    async def generate(self, prefill: int, decode: int, *, priority: int = 0) -> None:
        """One request; whoever waits for it may be cancelled, and then it leaves its slot."""
        job = _Job(prefill, decode)
        self._arrived += 1
        heapq.heappush(self._waiting, (priority, self._arrived, job))
        self._changed.set()
        try:
            await job.done.wait()
        finally:
            job.gone = True
            self._changed.set()

    async def run(self) -> None:
        """Steps for ever; the task that runs this has to be cancelled."""
        while True:
            self._changed.clear()
            self._admit()
            if not self._running:
                await self._changed.wait()
                continue
            shares = self._share_chunk()
            decoding = [job for job in self._running if not job.prefill]
            step_s = self.config.step_s(len(decoding), sum(shares.values()))
            # Steps that are alike are taken at once, until something comes or goes.
            alike = 1 if shares else min(job.decode for job in decoding)
            steps = await self._take(alike, step_s)
            self._account(shares, decoding, steps)

    def _admit(self) -> None:
        self._running = [job for job in self._running if not job.gone]
        while self._waiting and len(self._running) < self.config.slots:
            job = heapq.heappop(self._waiting)[2]
            if not job.gone:
                self._running.append(job)

    def _share_chunk(self) -> dict[_Job, int]:
        """Prompt tokens of this step, first come first served."""
        left, shares = self.config.chunk, {}
        for job in self._running:
            if job.prefill and left:
                shares[job] = min(job.prefill, left)
                left -= shares[job]
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

    def _account(self, shares: dict[_Job, int], decoding: list[_Job], steps: int) -> None:
        for job, tokens in shares.items():
            job.prefill -= tokens
            self.prefilled += tokens
        for job in decoding:
            job.decode -= steps
            self.decoded += 0 if job.gone else steps
        for job in self._running:
            if not job.prefill and job.decode <= 0:
                job.done.set()
                job.gone = True
