"""How far the simulator is from the engine, at three loads.

Part of: loomax bench search. The cost of a step is fitted to the engine's own log, and lengths and
tool times are those of the real runs; then the same rates of naive agents are simulated. Row:
search/simulator/latency_error, the largest relative error of the mean latency.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from benchmarks._rows import Row
from benchmarks._search_loads import capacity
from benchmarks._search_stage import SIGMA, SLOTS, Stage, delay, mean_s, open_stage, plain, poisson
from loomax.agents.search.engine_protocol import StepRecord
from loomax.agents.search.loop.agent import Run
from loomax.agents.search.simulate.config import AgentConfig, EngineConfig, StepSeconds
from loomax.agents.search.simulate.run import simulate
from loomax.agents.search.speculate.config import NAIVE

LOADS = (0.25, 0.5, 0.75)
# Tags and a name, in an action and in an answer.
ACTION = 4


def rows(quick: bool) -> list[Row]:
    """The largest error of all loads."""
    count = 16 if quick else 150

    async def main() -> tuple[list[tuple[float, float]], AgentConfig, StepSeconds]:
        async with open_stage() as stage:
            return await measured(stage, count)

    found, agents, step_s = asyncio.run(main())
    errors = []
    for per_s, real_s in found:
        engine = EngineConfig(step_s, slots=SLOTS, chunk=16)
        shown = simulate(engine, agents, NAIVE, count=10 * count, per_s=per_s)
        errors.append(abs(shown.latency_s / real_s - 1))
        print(f"{per_s:.2f} questions/s: real {real_s:.3f} s, simulated {shown.latency_s:.3f} s")
    return [plain("simulator", "latency_error", max(errors), "share", count)]


async def measured(
    stage: Stage, count: int
) -> tuple[list[tuple[float, float]], AgentConfig, StepSeconds]:
    """Rates with their mean latencies, what agents are like, and what a step costs."""
    tool_s, log = await stage.model_s(), []
    most = await capacity(stage, tool_s, count)
    stage.brain.engine.watch(log.append)
    found, all_runs = [], []
    for number, load in enumerate(LOADS):
        waits = poisson(count, most * load, seed=number)
        questions = stage.questions(count, seed=30 + number)
        runs = await stage.play(questions, tool_s=tool_s, waits=waits)
        found.append((most * load, mean_s(runs)))
        all_runs += runs
    return found, agents_like(all_runs, tool_s), fitted(log)


def fitted(log: Sequence[StepRecord]) -> StepSeconds:
    """Seconds of a step, by least squares; never less than the fastest step of the log."""
    seconds = np.array([record.seconds for record in log])
    features = np.array([[1.0, record.decoding, record.prefilled] for record in log])
    weights, *_ = np.linalg.lstsq(features, seconds, rcond=None)
    base, decoding, prefilled = map(float, weights)
    least = float(seconds.min())
    return lambda count, tokens: max(least, base + decoding * count + prefilled * tokens)


def agents_like(runs: Sequence[Run], tool_s: float) -> AgentConfig:
    """Mean lengths of real runs."""
    spans = [span for run in runs for span in run.transcript.spans]

    def mean(source: str) -> int:
        return round(float(np.mean([len(s.tokens) for s in spans if s.source == source])))

    searches = np.array([run.steps for run in runs])
    slowest = delay(tool_s)
    assert slowest is not None
    return AgentConfig(
        steps=(int(np.percentile(searches, 5)), int(np.percentile(searches, 95))),
        prompt=mean("prompt"),
        reasoning=max(2, mean("model") - ACTION),
        action=ACTION,
        answer=ACTION,
        observation=mean("observation"),
        tool_s=slowest.median_s,
        tool_sigma=SIGMA,
    )
