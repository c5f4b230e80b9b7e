"""How low are buffers packed, and how little does a training step hold?  loomax bench memory

    packing    the public instances, against minimalloc
    traces     one device of an interleaved 1F1B pipeline (dense and mixture of experts, with and
               without recomputation), replayed by PyTorch's and XLA's allocators, restated, and by
               the plan: trace-NAME/fragmentation, trace-mean/fragmentation_reduction (simulated)
    online     microseconds an allocation of the run-time allocator, compiled against its twin
    recorded   an RL loop and a server, recorded as they run: trace-rl-loop, trace-serving;
               trace-streams-tiny, trace-streams (requests without a model)
    xla        buffers of our own compiled programs for CPU, TPU and GPU: XLA's heap and our plan
    arena      planned buffers under XLA:CPU against glibc: arena/cpu_s, faults, rss_over_plan
    fit        what `fit` finds for a TPU v5e and an H100: fit-v5e/peak_bytes, fit-h100/batch
    remat-cpu  a training step with unrolled layers on CPU: our remat, jax.checkpoint, a scan of
               checkpointed layers, no remat. Rows: remat-cpu/temp_bytes and remat-cpu/cpu_s (of a
               step, all threads); the forms must give the same losses

`--only packing` runs one part. Packing:

Every instance NAME.CAPACITY.csv of a folder (LOOMAX_PACKING, by default ../shared/data/minimalloc:
the public "challenging" instances of github.com/google/minimalloc) is packed within its capacity;
without that folder, instances that are sliced from a full rectangle are. Ours runs as a library,
on all cores, one instance after the other; plans are checked before they count.

    minimalloc     that project's own command, if LOOMAX_MINIMALLOC names it (clone it with its
                   submodules; `cmake -B build -DCMAKE_BUILD_TYPE=Release`; `cmake --build build
                   --target minimalloc`). It takes turns with ours on each instance, runs on one
                   core, and its time holds the start of a process and two small files. What it
                   has not solved after LIMIT seconds counts as that.
    size-best-fit  largest first into the smallest gap, XLA's own rule: its peak, for comparison

Rows: packing-NAME/peak_over_capacity (1 or less fits), packing-NAME/peak_over_lower_bound (1 is
proved to be best), packing-all/seconds.
"""

import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _memory_arena as arena
from benchmarks import _memory_fit as fit
from benchmarks import _memory_online as online
from benchmarks import _memory_recorded as recorded
from benchmarks import _memory_remat as remat
from benchmarks import _memory_traces as traces
from benchmarks import _memory_xla as xla
from benchmarks._rows import Row, compare, finish, take_turns
from loomax.memory.lifetimes.csv_file import read_csv, write_csv
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import Plan, check_plan
from loomax.memory.planner.twin.greedy import place_in_order, sorted_by
from loomax.memory.planner.twin.problem import make_problem

BENCH = "memory"
INSTANCES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "minimalloc"
LIMIT = 120.0


@dataclass
class Instance:
    """A trace, its capacity, and the last plan of it."""

    name: str
    trace: Trace
    capacity: int
    plan: Plan | None = None

    def run(self) -> float:
        """Packs, checks, and returns the seconds that packing took."""
        config = PackConfig(capacity=self.capacity, seconds=LIMIT)
        self.plan = pack(self.trace, config)
        check_plan(self.trace, self.plan.offsets, self.plan.peak)
        return self.plan.seconds


def instances(quick: bool) -> list[Instance]:
    """Those of the folder, or sliced ones; `quick` takes the first two."""
    folder = Path(os.environ.get("LOOMAX_PACKING", INSTANCES))
    found = []
    for path in sorted(folder.glob("*.*.csv")):
        name, capacity = path.stem.rsplit(".", 1)
        found.append(Instance(name, read_csv(path), int(capacity)))
    if not found:
        print(f"no NAME.CAPACITY.csv in {folder}: packing sliced rectangles")
        found = [sliced(f"sliced-{count}", count, seed) for seed, count in enumerate((150, 250))]
    return found[:2] if quick else found


def sliced(name: str, count: int, seed: int, side: int = 1024) -> Instance:
    """A rectangle of time x memory, cut again and again: a perfect packing exists."""
    draw, parts = random.Random(seed), [(0, side, 0, side)]
    while len(parts) < count:
        parts.sort(key=lambda p: (p[1] - p[0]) * (p[3] - p[2]) * draw.random())
        a, b, c, d = parts.pop()
        if b - a >= max(2, d - c) or d - c < 2:
            cut = draw.randrange(a + 1, b)
            parts += [(a, cut, c, d), (cut, b, c, d)]
        else:
            cut = draw.randrange(c + 1, d)
            parts += [(a, b, c, cut), (a, b, cut, d)]
    draw.shuffle(parts)
    records = [Lifetime(str(i), d - c, a, b) for i, (a, b, c, d) in enumerate(parts)]
    return Instance(name, Trace(tuple(records), name), side)


def minimalloc_seconds(binary: str, instance: Instance) -> float:
    """Wall time of the peer's own command on one instance."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.csv", Path(folder) / "out.csv"
        write_csv(instance.trace, source)
        files = (f"--input={source}", f"--output={target}")
        command = [binary, f"--capacity={instance.capacity}", *files]
        start = time.perf_counter()
        try:
            subprocess.run(command, timeout=LIMIT, capture_output=True, check=True)
        except subprocess.TimeoutExpired:
            return LIMIT
        return time.perf_counter() - start


def xla_rule_peak(instance: Instance) -> int:
    """Peak of the largest-first best fit."""
    records = instance.trace.records
    problem = make_problem(
        [r.birth for r in records], [r.death for r in records], [r.size for r in records]
    )
    return problem.peak(place_in_order(problem, sorted_by(problem, "size"), "best"))


def rows_of(instance: Instance) -> list[Row]:
    """How low the peak of one instance is."""
    assert instance.plan is not None
    plan, case, found = instance.plan, f"packing-{instance.name}", []
    greedy = xla_rule_peak(instance)
    for metric, whole in (
        ("peak_over_capacity", instance.capacity),
        ("peak_over_lower_bound", plan.lower_bound),
    ):
        samples = {case: [plan.peak / whole], "size-best-fit": [greedy / whole]}
        unit = metric.removeprefix("peak_over_")
        found += compare(BENCH, metric, unit, samples, case, ["size-best-fit"], "lower")[:1]
    return found


def rows(cases: Sequence[Instance], n: int) -> list[Row]:
    """Packs all instances `n` times, in turns with the peer if it is here."""
    binary, found = os.environ.get("LOOMAX_MINIMALLOC"), []
    totals = {"packing-all": [0.0] * n} | ({"minimalloc": [0.0] * n} if binary else {})
    for case in cases:
        work = {"packing-all": case.run}
        if binary:
            work["minimalloc"] = lambda case=case: minimalloc_seconds(binary, case)
        for name, spent in take_turns(work, n).items():
            totals[name] = [a + b for a, b in zip(totals[name], spent, strict=True)]
            print(f"{case.name}: {name} {statistics.median(spent):.3f} s")
        found += rows_of(case)
    against = [name for name in totals if name != "packing-all"]
    if not against:
        # Its own row: there is nothing to compare with.
        return found + compare(BENCH, "seconds", "s", totals, "packing-all", ["packing-all"])[1:]
    return found + compare(BENCH, "seconds", "s", totals, "packing-all", against, "lower")


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "packing": lambda quick: rows(instances(quick), n=1 if quick else 3),
    "traces": traces.rows,
    "online": online.rows,
    "recorded": recorded.rows,
    "xla": xla.rows,
    "remat-cpu": remat.rows,
    "arena": arena.rows,
    "fit": fit.rows,
}


def main(quick: bool, json_path: Path | None, only: Sequence[str] = ()) -> None:
    """Runs the parts, all of them by default; prints and writes the rows."""
    finish([row for name in only or PARTS for row in PARTS[name](quick)], json_path)
