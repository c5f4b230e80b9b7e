"""Latency under load: questions arrive at random, at shares of what the engine can do.

Part of: loomax bench search. Arrivals are a Poisson process that waits for nobody. A load of 100 %
is the rate at which naive agents finish when there are always enough of them. Tools take as long as
the model (ratio 1). Rows: search/load-{25,50,75,100}/latency_p95_s against naive, and
search/load-100/throughput.
"""

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from benchmarks._rows import Row, compare
from benchmarks._search_stage import BENCH, SLOTS, Stage, open_stage, poisson
from loomax.agents.search.loop.agent import Run
from loomax.agents.search.speculate.config import NAIVE, PREDICT_VERIFY, TWO_PHASE
from loomax.agents.search.speculate.scheduler import Speculator

LOADS = (25, 50, 75, 100)
POLICIES = (NAIVE, PREDICT_VERIFY, TWO_PHASE)
OTHERS = ("naive", "predict-verify")


def rows(quick: bool, loads: Sequence[int] = LOADS) -> list[Row]:
    """All loads."""
    count, rounds = (16, 1) if quick else (80, 2)

    async def main() -> list[Row]:
        async with open_stage() as stage:
            found, tool_s = [], await stage.model_s()
            most = await capacity(stage, tool_s, count)
            print(f"a search waits {1000 * tool_s:.1f} ms; {most:.2f} questions/s at most")
            for load in loads:
                found += await rows_at(stage, load, most, tool_s, count, rounds)
            return found

    return asyncio.run(main())


async def capacity(stage: Stage, tool_s: float, count: int) -> float:
    """Questions a second with a crowd that always has enough of them."""
    start = time.perf_counter()
    await stage.play(stage.questions(count, seed=4), tool_s=tool_s, at_once=4 * SLOTS)
    return count / (time.perf_counter() - start)


async def rows_at(
    stage: Stage, load: int, most: float, tool_s: float, count: int, rounds: int
) -> list[Row]:
    """One load; the policies take turns, with the same arrivals in a round."""
    speculators = {policy.name: Speculator(stage.brain.engine, policy) for policy in POLICIES}
    late: dict[str, list[float]] = {name: [] for name in speculators}
    done: dict[str, list[float]] = {name: [] for name in speculators}
    for turn in range(rounds):
        questions = stage.questions(count, seed=10 + turn)
        waits = poisson(count, most * load / 100, seed=turn)
        for name, speculator in speculators.items():
            start = time.perf_counter()
            runs = await stage.play(questions, speculator, tool_s=tool_s, waits=waits)
            done[name].append(count / (time.perf_counter() - start))
            late[name].append(p95(runs))
    case = f"load-{load}"
    print(f"{case}: p95 {late}, questions/s {done}", flush=True)
    for samples in (late, done):
        samples[case] = samples.pop("two-phase")
    found = compare(BENCH, "latency_p95_s", "s", late, case, OTHERS, "lower")
    if load == 100:
        found += compare(BENCH, "throughput", "questions/s", done, case, OTHERS)
    return found


def p95(runs: Sequence[Run]) -> float:
    """The latency that 95 % of the runs stay below."""
    return float(np.percentile([run.seconds for run in runs], 95))
