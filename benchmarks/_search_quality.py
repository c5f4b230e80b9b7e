"""Exact match with and without speculation, and how often a draft is right.

Part of: loomax bench search. Questions are unseen, of all kinds, and tools answer at once.
Rows: search/two-phase/exact_match against naive, search/naive/exact_match,
search/step-{1,2,3,4}/direct_hit (of first drafts, by search).
"""

import asyncio

from benchmarks._rows import Row
from benchmarks._search_stage import SLOTS, open_stage, plain
from loomax.agents.search.speculate.config import NAIVE, TWO_PHASE, SpeculationConfig
from loomax.agents.search.speculate.scheduler import Speculator
from loomax.agents.search.trace.statistics import statistics
from loomax.agents.search.train.exam import mark

STEPS = 4
ONE_DRAFT = SpeculationConfig("one-draft", drafts=1)


def exact_match(quick: bool) -> list[Row]:
    """Both policies on the same questions."""
    count = 40 if quick else 2000

    async def main() -> dict[str, float]:
        found = {}
        async with open_stage() as stage:
            questions = stage.questions(count)
            for policy in (NAIVE, TWO_PHASE):
                speculator = Speculator(stage.brain.engine, policy)
                runs = await stage.play(questions, speculator, at_once=SLOTS)
                marks = mark(stage.world, questions, runs)
                print(f"{policy.name}: {marks}", flush=True)
                found[policy.name] = marks.exact_match
        return found

    found = asyncio.run(main())
    ratio = found["two-phase"] / found["naive"] if found["naive"] else None
    return [
        plain("two-phase", "exact_match", found["two-phase"], "share", count, "naive", ratio),
        plain("naive", "exact_match", found["naive"], "share", count),
    ]


def direct_hit(quick: bool) -> list[Row]:
    """How often the action without reasoning is the one that the reasoning comes to."""
    count = 40 if quick else 500

    async def main() -> dict[int, float]:
        async with open_stage() as stage:
            speculator = Speculator(stage.brain.engine, ONE_DRAFT)
            runs = await stage.play(stage.questions(count), speculator, at_once=SLOTS // 2)
            return statistics([run.events for run in runs]).direct_hit

    hits = asyncio.run(main())
    return [
        plain(f"step-{step + 1}", "direct_hit", hits[step], "share", count)
        for step in range(STEPS)
        if step in hits
    ]
