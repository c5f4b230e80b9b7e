"""What each part of the two-phase policy is worth, one left out at a time.

Part of: loomax bench search. Half of the engine's capacity, tools as long as the model. Rows:
search/ablation-PART/latency_s against two-phase (above 1: better without the part), for no-fork
(a draft reads its context again), no-level-1 (always 4 drafts), no-level-2 (drafts wait in line,
first come, first served) and no-phase-1 (nothing is taken without reasoning).

For self-score a draft's confidence is the model's own score instead of its least token probability.
Both sides have the same searcher, one that has learnt to score: the run in tests/assets, or
$LOOMAX_SCORER. More rows of it: exact_match on unseen questions, and auc, the chance that a right
greedy draft is put above a wrong one (steps of unseen gold trajectories).
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks._rows import Row, compare
from benchmarks._search_loads import capacity
from benchmarks._search_stage import (
    ASSET,
    BENCH,
    SEED,
    SLOTS,
    Stage,
    mean_s,
    open_stage,
    plain,
    poisson,
)
from loomax.agents.engine.engine import Engine
from loomax.agents.engine.request import EngineRequest
from loomax.agents.search.ask import Brain
from loomax.agents.search.engine_protocol import Kind, Place, Sampling
from loomax.agents.search.speculate.config import LOSSLESS, TWO_PHASE, SpeculationConfig
from loomax.agents.search.speculate.scheduler import Speculator
from loomax.agents.search.train.brain import load_searcher, searcher_brain
from loomax.agents.search.train.drafts import RIGHT, Draft, drafts_of
from loomax.agents.search.train.exam import mark, world_index
from loomax.agents.search.world.config import WorldConfig
from loomax.agents.search.world.dataset import trajectories
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import make_world

LOAD = 0.5
# A run of `loomax train search --config searcher-score`.
SCORER = ASSET.parent / "searcher-score"


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
SELF = "ablation-self-score"
# At this threshold, TWO_PHASE's own, a 5 alone is taken.
SCORERS = {
    "two-phase": Variant(TWO_PHASE),
    SELF: Variant(replace(TWO_PHASE, scorer="self")),
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
            found = await compared(stage, VARIANTS, count, rounds)
        async with open_scorer() as stage:
            found += await compared(stage, SCORERS, count, rounds)
            found += await exact_matches(stage, 12 if quick else 1000)
            return found + await separation(stage, 12 if quick else 500)

    return asyncio.run(main())


@asynccontextmanager
async def open_scorer() -> AsyncGenerator[Stage, None]:
    """The world of `open_stage`, with a searcher that has learnt to score.

    Raises:
        ValueError: it has not.
    """
    source, world = Path(os.environ.get("LOOMAX_SCORER", SCORER)), make_world(WorldConfig())
    searcher = load_searcher(source)
    if not searcher.scores:
        raise ValueError(
            f"the searcher of {source} has not learnt to score: train one with `loomax train "
            "search --config searcher-score --init RUN/model.safetensors`, and set "
            "LOOMAX_SCORER=runs/searcher-score"
        )
    async with searcher_brain(searcher, slots=SLOTS) as brain:
        yield Stage(brain, world, world_index(world))


async def compared(
    stage: Stage, variants: Mapping[str, Variant], count: int, rounds: int
) -> list[Row]:
    """Mean latency of every variant in each round."""
    tool_s, engine = await stage.model_s(), stage.brain.engine
    per_s = LOAD * await capacity(stage, tool_s, count)
    speculators = {name: Speculator(engine, each.policy) for name, each in variants.items()}
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds):
        waits = poisson(count, per_s, seed=turn)
        for name, variant in variants.items():
            brain = replace(stage.brain, engine=engine if variant.fork else WithoutFork(engine))
            runs = await replace(stage, brain=brain).play(
                stage.questions(count, seed=20 + turn),
                speculators[name],
                tool_s=tool_s,
                waits=waits,
            )
            samples[name].append(mean_s(runs))
    print(f"mean latency of each round, s: {samples}", flush=True)
    found = []
    for name in variants:
        if name != "two-phase":
            found += compare(BENCH, "latency_s", "s", samples, name, ["two-phase"], "lower")[:1]
    return found


async def exact_matches(stage: Stage, count: int) -> list[Row]:
    """Both scorers on the same unseen questions, with tools that answer at once."""
    found, questions = {}, stage.questions(count)
    for name, variant in SCORERS.items():
        speculator = Speculator(stage.brain.engine, variant.policy)
        marks = mark(stage.world, questions, await stage.play(questions, speculator, at_once=SLOTS))
        print(f"{name}: {marks}", flush=True)
        found[name] = marks.exact_match
    base = found["two-phase"]
    ratio = found[SELF] / base if base else None
    return [
        plain(SELF, "exact_match", found[SELF], "share", count, "two-phase", ratio),
        plain("ablation-probability", "exact_match", base, "share", count),
    ]


async def separation(stage: Stage, count: int) -> list[Row]:
    """How well each confidence tells right drafts from wrong ones, of those that are searches.

    No row where all are right, or none.
    """
    brain = stage.brain
    words = Vocabulary(stage.world.config.sizes)
    # Scores are asked for before there is any reasoning.
    made = trajectories(stage.world, words, count, seed=SEED, think=0.0, split="held_out")
    drafts = await drafts_of(brain, made, samples=1, seed=SEED, at_once=SLOTS)
    drafts = [draft for draft in drafts if draft.call]
    own = await own_scores(brain, drafts)
    right = np.array([draft.score == RIGHT for draft in drafts])
    least = np.array([draft.probability for draft in drafts])
    shown = {
        f"{score:g}": (int((own == score).sum()), float(right[own == score].mean()))
        for score in np.unique(own)
    }
    print(f"drafts and share of right ones by own score (0 to 1): {shown}", flush=True)
    if right.all() or not right.any():
        return []
    ours, base = auc(own, right), auc(least, right)
    print(f"{right.mean():.3f} of {len(drafts)} drafts are right; auc {ours:.3f}, {base:.3f}")
    return [
        plain(SELF, "auc", ours, "share", len(drafts), "two-phase", ours / base),
        plain("ablation-probability", "auc", base, "share", len(drafts)),
    ]


async def own_scores(brain: Brain, drafts: Sequence[Draft]) -> np.ndarray:
    """What the model says of drafts, 0 to 1."""
    gate = asyncio.Semaphore(SLOTS)

    async def one(draft: Draft) -> float:
        async with gate:
            asked = (*draft.before, *draft.written, *brain.codec.question)
            request = await brain.engine.submit(asked, Sampling(1), kind="score")
            try:
                tokens = [token async for piece in request for token in piece.tokens]
            finally:
                brain.engine.abort(request)
            return brain.codec.score(tokens[0])

    return np.array(await asyncio.gather(*map(one, drafts)))


def auc(scores: np.ndarray, right: np.ndarray) -> float:
    """The chance that a right draft has the higher score; a tie is half a chance."""
    found = stats.mannwhitneyu(scores[right], scores[~right])
    return float(found.statistic / (right.sum() * (~right).sum()))
