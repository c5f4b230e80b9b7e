"""What the parts of `loomax bench search` share: a trained searcher, its world, and the asking.

The searcher is $LOOMAX_SEARCHER, a run of `loomax train search` or a safetensors file of one, or
the one in tests/assets. The tool is BM25 over the whole world, and waits as long as is said.
"""

import asyncio
import math
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from benchmarks._rows import Row, device_name
from loomax.agents.search.actions.config import DelayConfig
from loomax.agents.search.actions.search_tool import search_tool
from loomax.agents.search.actions.server import ActionServer
from loomax.agents.search.ask import Brain
from loomax.agents.search.loop.agent import Run, SearchAgent
from loomax.agents.search.loop.session import Parts
from loomax.agents.search.retrieval.retriever import Retriever
from loomax.agents.search.speculate.scheduler import Speculator
from loomax.agents.search.trace.statistics import statistics
from loomax.agents.search.train.brain import load_searcher, searcher_brain
from loomax.agents.search.train.exam import world_index
from loomax.agents.search.world.config import WorldConfig
from loomax.agents.search.world.questions import Question, draw_questions, text_of
from loomax.agents.search.world.world import World, make_world

BENCH = "search"
ASSET = Path(__file__).resolve().parent.parent / "tests" / "assets" / "searcher.safetensors"
SLOTS = 8
# Of a search's delay: half of them are between 0.71 and 1.4 times the median.
SIGMA = 0.5
# The exam of the training has seed 1.
SEED = 2


@dataclass
class Stage:
    """An engine with the searcher, and the world that it was trained for."""

    brain: Brain
    world: World
    retriever: Retriever

    def questions(self, count: int, seed: int = SEED) -> list[Question]:
        """Unseen ones, of all kinds."""
        return draw_questions(self.world, count, split="held_out", seed=seed)

    async def play(
        self,
        questions: Sequence[Question],
        speculator: Speculator | None = None,
        *,
        tool_s: float = 0.0,
        at_once: int = 1,
        waits: Sequence[float] | None = None,
    ) -> list[Run]:
        """An agent for each question.

        Args:
            tool_s: mean delay of a search; 0 injects none.
            at_once: agents at the same time, where `waits` does not say when each arrives.
        """
        found = search_tool(self.retriever, k=1, inline=True)
        gate = asyncio.Semaphore(len(questions) if waits else at_once)
        async with ActionServer([found], delay=delay(tool_s)) as server:
            brain = self.brain
            agent = SearchAgent(
                Parts(brain.engine, server, brain.grammar, brain.codec, brain.limits, speculator)
            )

            async def one(number: int, question: Question) -> Run:
                await asyncio.sleep(waits[number] if waits else 0)
                async with gate:
                    text = text_of(self.world, question)
                    return await agent.run(text, name=str(number), seed=number)

            return await asyncio.gather(*map(one, range(len(questions)), questions))

    async def model_s(self, count: int = 30) -> float:
        """Seconds of the model in one search and its share of the answer, one agent at a time."""
        await self.play(self.questions(5, seed=3))
        runs = await self.play(self.questions(count, seed=3))
        return sum(run.seconds for run in runs) / sum(run.steps for run in runs)


@asynccontextmanager
async def open_stage(world: WorldConfig | None = None) -> AsyncGenerator[Stage, None]:
    """Loads, compiles and indexes everything.

    Raises:
        ValueError: there is no trained searcher.
    """
    source = Path(os.environ.get("LOOMAX_SEARCHER", ASSET))
    if not source.exists():
        raise ValueError(
            f"no searcher in {source}: train one with `loomax train search --config searcher`, and "
            "set LOOMAX_SEARCHER=runs/searcher"
        )
    made = make_world(world or WorldConfig())
    async with searcher_brain(load_searcher(source), slots=SLOTS) as brain:
        yield Stage(brain, made, world_index(made))


def delay(mean_s: float) -> DelayConfig | None:
    """Log-normal delays with this mean."""
    return DelayConfig(mean_s / math.exp(SIGMA**2 / 2), SIGMA) if mean_s else None


def poisson(count: int, per_s: float, seed: int = 0) -> list[float]:
    """Seconds at which so many agents arrive."""
    gaps = np.random.default_rng(seed).exponential(1 / per_s, count)
    return (np.cumsum(gaps) - gaps[0]).tolist()


def mean_s(runs: Sequence[Run]) -> float:
    """Mean latency."""
    return sum(run.seconds for run in runs) / len(runs)


def plain(
    case: str,
    metric: str,
    value: float,
    unit: str,
    n: int,
    baseline: str | None = None,
    ratio: float | None = None,
) -> Row:
    """A row of one figure."""
    where = (device_name(), jax.__version__)
    return Row(BENCH, case, metric, value, unit, baseline, ratio, n, *where)


def wasted_and_calls(runs: Sequence[Run]) -> tuple[float, float]:
    """Wasted tokens and tool calls of a question."""
    found = statistics([run.events for run in runs])
    return found.wasted, found.tool_calls
