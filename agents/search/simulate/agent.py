"""One agent of the simulation: what it will do is drawn before, so policies can be compared."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np

from loomax.agents.search.simulate.config import MOST_DRAFTS, AgentConfig, Policy
from loomax.agents.search.simulate.engine import SimulatedEngine


@dataclass(frozen=True)
class Search:
    """One search of an agent.

    Args:
        tool_s: seconds of the right call, and of a wrong one.
        hit_rate: chance that one draft is right.
        luck: of each draft; it is right if this is below `hit_rate`.
        score_luck: the score passes if this is below the chance that it does.
    """

    tool_s: float
    hit_rate: float
    luck: tuple[float, ...]
    score_luck: float

    def right(self, drafts: int) -> list[bool]:
        """Which drafts are right."""
        return [luck < self.hit_rate for luck in self.luck[:drafts]]

    def hit_chance(self, drafts: int) -> float:
        """That one of the drafts is right, as SPAgent's equation 2 has it."""
        return 1 - (1 - self.hit_rate) ** drafts


def draw_searches(config: AgentConfig, rng: np.random.Generator) -> tuple[Search, ...]:
    """The searches of one agent."""
    count = int(rng.integers(config.steps[0], config.steps[1] + 1))
    rates = [config.hit_rates[min(n, len(config.hit_rates) - 1)] for n in range(count)]
    noise = np.exp(config.tool_sigma * rng.standard_normal(count))
    luck, score_luck = rng.random((count, MOST_DRAFTS)).tolist(), rng.random(count).tolist()
    return tuple(
        Search(config.tool_s * float(noise[n]), rates[n], tuple(luck[n]), score_luck[n])
        for n in range(count)
    )


class Agent:
    """Runs the searches under a policy."""

    def __init__(
        self,
        engine: SimulatedEngine,
        config: AgentConfig,
        policy: Policy,
        searches: tuple[Search, ...],
    ):
        self._engine, self._config, self._policy = engine, config, policy
        self._searches = searches
        # Tokens of the context, and those among them that have not been prefilled.
        self._context = self._new = config.prompt
        self.tool_calls = 0

    async def run(self) -> None:
        """All searches and the answer, which is never drafted."""
        left = self._policy.aggressive
        for search in self._searches:
            if left and await self._aggressive(search):
                left -= 1
                continue
            left = 0
            await self._verified(search)
            self._observe()
        await self._turn(self._config.reasoning + self._config.answer)

    async def _aggressive(self, search: Search) -> bool:
        """Acts without reasoning, if the score passes; returns whether the search is done."""
        config, (right,) = self._config, search.right(1)
        await self._turn(config.action, self._draft_priority())
        if search.score_luck >= (config.accept_hit if right else config.accept_miss):
            # The draft is taken back.
            self._context -= config.action
            return False
        await self._tool(search.tool_s)
        # What a wrong search found is in the context too.
        self._observe()
        return right

    async def _verified(self, search: Search) -> None:
        """Reasons, with drafts beside if they pay; a right draft's call has then begun already."""
        config, drafts = self._config, self._drafts(search)
        shared = self._engine.config.prefix_cache or self._engine.config.fork
        draft_prefill = 1 if shared else self._context
        main = self._turn(config.reasoning + config.action)
        if not drafts:
            await main
            await self._tool(search.tool_s)
            return
        right = search.right(drafts)
        # Right drafts are one call and share its execution; wrong ones are taken to differ.
        calls = [not hit or number == right.index(True) for number, hit in enumerate(right)]
        ahead = [
            asyncio.create_task(self._draft(draft_prefill, search.tool_s if call else None))
            for call in calls
        ]
        try:
            await main
            if any(right):
                await ahead[right.index(True)]
            else:
                await self._tool(search.tool_s)
        finally:
            for task in ahead:
                task.cancel()

    async def _draft(self, prefill: int, tool_s: float | None) -> None:
        priority = self._draft_priority()
        await self._engine.generate(prefill, self._config.action, priority=priority)
        if tool_s is not None:
            await self._tool(tool_s)

    def _drafts(self, search: Search) -> int:
        """How many drafts pay: time that they hide against time that they cost the others."""
        most, engine = self._policy.drafts, self._engine
        if not self._policy.adaptive:
            return most
        load, step_s = min(engine.load + 1, engine.config.slots), engine.config.step_s

        def gain(drafts: int) -> float:
            hidden = min(search.tool_s, self._config.reasoning * step_s(load, 0))
            slower = step_s(min(load + drafts, engine.config.slots), 0) - step_s(load, 0)
            full = engine.load + 1 + drafts > engine.config.slots
            cost = load * self._config.action * (slower + (step_s(load, 0) if full else 0.0))
            return search.hit_chance(drafts) * hidden - cost

        return max(range(most + 1), key=lambda drafts: gain(drafts) if drafts else 0.0)

    def _draft_priority(self) -> int:
        return -1 if self._policy.drafts_first else 0

    def _turn(self, decode: int, priority: int = 0) -> Coroutine[Any, Any, None]:
        """A turn of the request itself."""
        prefill = self._new if self._engine.config.prefix_cache else self._context
        self._context, self._new = self._context + decode, 1
        return self._engine.generate(prefill, decode, priority=priority)

    def _observe(self) -> None:
        self._context += self._config.observation
        self._new += self._config.observation

    async def _tool(self, seconds: float) -> None:
        self.tool_calls += 1
        await asyncio.sleep(seconds)
