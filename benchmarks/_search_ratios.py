"""Latency of one question at a time, where tools take 0.3, 1 or 3 times the model's time.

Part of: loomax bench search. The policies take turns, on the same questions and the same delays.
Rows: search/ratio-{0.3,1,3}/latency_s of two-phase (the mean of a round, and the median over
rounds) against naive and predict-verify; search/two-phase/{wasted_tokens,tool_calls} at ratio 1.
"""

import asyncio
from collections.abc import Sequence

from benchmarks._rows import Row, compare
from benchmarks._search_stage import BENCH, Stage, mean_s, open_stage, plain, wasted_and_calls
from loomax.agents.search.loop.agent import Run
from loomax.agents.search.speculate.config import NAIVE, PREDICT_VERIFY, TWO_PHASE
from loomax.agents.search.speculate.scheduler import Speculator

RATIOS = (0.3, 1.0, 3.0)
POLICIES = (NAIVE, PREDICT_VERIFY, TWO_PHASE)
OTHERS = ("naive", "predict-verify")


def rows(quick: bool, ratios: Sequence[float] = RATIOS) -> list[Row]:
    """All ratios."""

    async def main() -> list[Row]:
        async with open_stage() as stage:
            found, model_s = [], await stage.model_s()
            for ratio in ratios:
                found += await rows_at(stage, ratio, model_s, *((1, 4) if quick else (6, 12)))
            return found

    return asyncio.run(main())


async def rows_at(stage: Stage, ratio: float, model_s: float, rounds: int, each: int) -> list[Row]:
    """One ratio: `rounds` of `each` questions, after one that only warms up."""
    tool_s = ratio * model_s
    speculators = {policy.name: Speculator(stage.brain.engine, policy) for policy in POLICIES}
    questions = stage.questions(each * (rounds + 1))
    runs: dict[str, list[list[Run]]] = {name: [] for name in speculators}
    for start in range(0, len(questions), each):
        part = questions[start : start + each]
        for name, speculator in speculators.items():
            runs[name].append(await stage.play(part, speculator, tool_s=tool_s))
    kept = {name: given[1:] for name, given in runs.items()}
    case = f"ratio-{ratio:g}"
    samples = {name: [mean_s(part) for part in given] for name, given in kept.items()}
    print(f"{case}: a search waits {1000 * tool_s:.1f} ms; {samples}", flush=True)
    samples[case] = samples.pop("two-phase")
    found = compare(BENCH, "latency_s", "s", samples, case, OTHERS, "lower")
    return found + (costs(kept) if ratio == 1 else [])


def costs(runs: dict[str, list[list[Run]]]) -> list[Row]:
    """Wasted tokens and tool calls of a question."""
    found = []
    for name, parts in runs.items():
        wasted, calls = wasted_and_calls([run for part in parts for run in part])
        count = sum(map(len, parts))
        found.append(plain(name, "wasted_tokens", wasted, "tokens", count))
        found.append(plain(name, "tool_calls", calls, "calls", count))
    return found
