"""What each part of the two-phase policy is worth, one left out at a time.

Part of: loomax bench search. Half of the engine's capacity, tools as long as the model. Rows:
search/ablation-PART/latency_s against two-phase (above 1: better without the part), for no-fork
(a draft reads its context again), no-level-1 (always 4 drafts), no-level-2 (drafts wait in line,
first come, first served) and no-phase-1 (nothing is taken without reasoning). Self-scored drafts
are missing: the searcher has not learnt to score.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks._rows import Row, compare
from benchmarks._search_loads import capacity
from benchmarks._search_stage import BENCH, Stage, mean_s, open_stage, poisson
from loomax.agents.engine.engine import Engine
from loomax.agents.engine.request import EngineRequest
from loomax.agents.search.engine_protocol import Kind, Place, Sampling
from loomax.agents.search.speculate.config import LOSSLESS, TWO_PHASE, SpeculationConfig
from loomax.agents.search.speculate.scheduler import Speculator

LOAD = 0.5


@dataclass(frozen=True)
class Variant:
    """A policy, and whether drafts share their parent's pages."""

    policy: SpeculationConfig
    fork: bool = True


VARIANTS = {
    "two-phase": Variant(TWO_PHASE),
    "ablation-no-fork": Variant(TWO_PHASE, fork=False),
    "ablation-no-level-1": Variant(replace(TWO_PHASE, adaptive=False)),
    "ablation-no-level-2": Variant(replace(TWO_PHASE, drafts_first=False)),
    "ablation-no-phase-1": Variant(LOSSLESS),
}


class WithoutFork:
    """An engine that does not share the pages of a running request."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self.submit, self.halt, self.abort = engine.submit, engine.halt, engine.abort
        self.load, self.watch = engine.load, engine.watch

    async def fork(
        self,
        request: EngineRequest,
        forced: Sequence[int],
        sampling: Sampling,
        *,
        at: Place = "prompt",
        kind: Kind = "draft",
    ) -> EngineRequest:
        """The same tokens, read again."""
        base = request.tokens[: request.prompt] if at == "prompt" else request.tokens
        return await self._engine.submit((*base, *forced), sampling, kind=kind)


def rows(quick: bool) -> list[Row]:
    """All variants take turns."""
    count, rounds = (12, 1) if quick else (60, 3)

    async def main() -> list[Row]:
        async with open_stage() as stage:
            tool_s = await stage.model_s()
            rate = LOAD * await capacity(stage, tool_s, count)
            return await compared(stage, tool_s, rate, count, rounds)

    return asyncio.run(main())


async def compared(stage: Stage, tool_s: float, per_s: float, count: int, rounds: int) -> list[Row]:
    """Mean latency of every variant in each round."""
    engine = stage.brain.engine
    speculators = {name: Speculator(engine, each.policy) for name, each in VARIANTS.items()}
    samples: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(rounds):
        waits = poisson(count, per_s, seed=turn)
        for name, variant in VARIANTS.items():
            brain = replace(stage.brain, engine=engine if variant.fork else WithoutFork(engine))
            runs = await replace(stage, brain=brain).play(
                stage.questions(count, seed=20 + turn),
                speculators[name],
                tool_s=tool_s,
                waits=waits,
            )
            samples[name].append(mean_s(runs))
    found = []
    for name in VARIANTS:
        if name != "two-phase":
            found += compare(BENCH, "latency_s", "s", samples, name, ["two-phase"], "lower")[:1]
    return found
