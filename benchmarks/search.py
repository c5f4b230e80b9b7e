"""How fast and how right are search agents that speculate?  loomax bench search

A trained searcher on our engine searches 20,000 documents with BM25; log-normal delays make the
tool slow. $LOOMAX_SEARCHER names another searcher (a run of `loomax train search`).

    exact-match  two-phase and naive on 2,000 unseen questions
    direct-hit   on 500 of them, how often a draft is what the reasoning comes to, by step
    ratios       latency one question at a time, tools at 0.3, 1 and 3 times the model's time, with
                 wasted tokens and tool calls
    loads        95th percentile of the latency at 25 to 100 % of capacity; throughput
    ablations    two-phase without fork, level 1, level 2, phase 1; self-scored drafts
    simulator    simulated against real mean latency at three loads
    engine       tokens per second of continuous batching, and a soak that counts wrong tokens

`--only ratios` runs one part.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import _engine as engine
from benchmarks import _search_ablations as ablations
from benchmarks import _search_loads as loads
from benchmarks import _search_quality as quality
from benchmarks import _search_ratios as ratios
from benchmarks import _search_simulator as simulator
from benchmarks._rows import Row, finish

PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "exact-match": quality.exact_match,
    "direct-hit": quality.direct_hit,
    "ratios": ratios.rows,
    "loads": loads.rows,
    "ablations": ablations.rows,
    "simulator": simulator.rows,
    "engine": engine.rows,
}


def main(quick: bool, json_path: Path | None, only: Sequence[str] = ()) -> None:
    """Runs the parts, all of them by default; prints and writes the rows."""
    finish([row for name in only or PARTS for row in PARTS[name](quick)], json_path)
