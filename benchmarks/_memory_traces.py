"""How much memory do allocators waste on pipelined training?  Part of: loomax bench memory

Traces: the first of 4 devices of a pipeline under interleaved 1F1B, 8 microbatches, 6 layers (3
with experts, as an allocator in Python takes its time), virtual pipeline 1-3, with and without
recomputation, from the jaxprs of a transformer layer run equation by equation
(`memory/lifetimes/pipeline.py`); dense, and a mixture of experts whose sizes follow a real router
with random weights on skewed tokens. Parameters and optimizer live throughout. Nothing is computed,
and the rows are simulations.

    dense   a plan of all buffers
    moe     trained for some iterations after three that are profiled. The plan has the static
            buffers, and room for the experts' (`memory/allocator/room.py`), which get gaps, with
            lifetimes that are learned from the profiled iterations (the row) or known (the oracle,
            `-oracle`)
    torch-caching, torch-expandable, bfc   restated rules (docs/memory.md), the same iterations:
            what they reserve without a limit, and as "least" with the least capacity that works;
            BFC, which takes all of its capacity at once, has only the latter

Rows: trace-NAME/fragmentation, 1 - lower bound / reserved, and trace-mean/fragmentation_reduction,
the mean over all traces of 1 - ours / torch-caching's.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax

from benchmarks._rows import Row, device_name
from loomax.memory.allocator.peers.bfc import BFC
from loomax.memory.allocator.peers.torch_caching import TorchCaching
from loomax.memory.allocator.peers.torch_expandable import TorchExpandable
from loomax.memory.allocator.planned_native import make_planned
from loomax.memory.allocator.predict import Known
from loomax.memory.allocator.protocol import MIB, Allocator
from loomax.memory.allocator.replay import events
from loomax.memory.allocator.room import plan_with_room, static_part
from loomax.memory.lifetimes.pipeline import RESIDENT, pipeline_trace
from loomax.memory.lifetimes.pipeline_config import BlockConfig, PipelineConfig
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.pack import pack
from loomax.memory.planner.plan import check_plan

BENCH = "memory"
PEERS: dict[str, Callable[[int | None], Allocator]] = {
    "torch-caching": TorchCaching,
    "torch-expandable": TorchExpandable,
}
STEP = 2 * MIB
MOE = BlockConfig(hidden=2048, experts=16, local=2)
PROFILED = 3
# A gap of 0.001 % ends the search for a better plan.
PACK = PackConfig(seconds=10.0, gap=1e-5)


@dataclass(frozen=True)
class Case:
    """One kind of training, and how many iterations are replayed."""

    name: str
    config: PipelineConfig
    iterations: int

    @property
    def dynamic(self) -> bool:
        """Whether sizes differ between iterations."""
        return bool(self.config.block.experts)


def cases(quick: bool) -> list[Case]:
    """All traces; `quick` has a small dense and a small sparse one."""
    if quick:
        small = PipelineConfig(layers=2, microbatches=4, recompute=True)
        sparse = PipelineConfig(MOE, layers=1, microbatches=4, recompute=True)
        return [Case("dense-v1-recompute", small, 1), Case("moe-v1-recompute", sparse, 2)]
    found = []
    for name, block, layers, virtual in (
        ("dense", BlockConfig(), 6, (1, 2, 3)),
        ("moe", MOE, 3, (1, 3)),
    ):
        for recompute in (False, True):
            for chunks in virtual:
                config = PipelineConfig(block, layers, chunks=chunks, recompute=recompute)
                tail = "-recompute" if recompute else ""
                found.append(Case(f"{name}-v{chunks}{tail}", config, 2))
    return found


def reserved(iterations: Sequence[Trace], allocator: Allocator) -> int:
    """Most bytes reserved through iterations, between which residents stay where they are."""
    most = 0
    for turn, trace in enumerate(iterations):
        for born, record in events(trace):
            if record.kind in RESIDENT and not (born and turn == 0):
                continue
            if born:
                allocator.malloc(record.id, record.size)
                most = max(most, allocator.reserved)
            else:
                allocator.free(record.id)
    return most


def least(iterations: Sequence[Trace], make: Callable[[int], Allocator], bound: int) -> int:
    """The least capacity with which the iterations work, in steps of 2 MiB, by bisection."""

    def works(steps: int) -> bool:
        try:
            reserved(iterations, make(steps * STEP))
        except MemoryError:
            return False
        return True

    low = -(-bound // STEP) - 1
    width = 1
    while not works(low + width):
        low, width = low + width, 2 * width
    high = low + width
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high * STEP


def site(name: str) -> str:
    """Where a buffer comes from: its name without the microbatch."""
    phase, _, rest = name.partition("/")
    return f"{phase.partition('.')[0]}/{rest}"


def ours(iterations: Sequence[Trace], profiled: Sequence[Trace]) -> dict[str, int]:
    """Bytes that our allocator reserves; the oracle's too where sizes change."""
    if not profiled:
        trace = iterations[0]
        plan = pack(trace, PACK)
        check_plan(trace, plan.offsets, plan.peak)
        return {"planned": reserved(iterations, make_planned(trace, plan.offsets))}
    plan, learned = plan_with_room(profiled, PACK, site)
    fixed = static_part(profiled[0])
    check_plan(fixed, plan.offsets, plan.peak)
    # All iterations have the same steps, so the profiled one's times are true of all.
    deaths = {record.id: record.death for record in profiled[0].records}
    return {
        "planned": reserved(iterations, make_planned(fixed, plan.offsets, learned)),
        "oracle": reserved(iterations, make_planned(fixed, plan.offsets, Known(deaths))),
    }


def one_region(capacity: int) -> Allocator:
    """BFC as JAX sets it up by default."""
    return BFC(capacity, growth=False)


def fragmentation(case: Case) -> dict[str, float]:
    """Of our allocator and of the peers."""
    start = time.perf_counter()
    first = PROFILED if case.dynamic else 0
    traces = [pipeline_trace(case.config, turn) for turn in range(first + case.iterations)]
    iterations = traces[first:] if case.dynamic else [traces[0]] * case.iterations
    bound = max(trace.lower_bound for trace in iterations)
    found = ours(iterations, traces[:first])
    for name, make in PEERS.items():
        found[name] = reserved(iterations, make(None))
        found[f"{name} least"] = least(iterations, make, bound)
    found["bfc"] = least(iterations, one_region, bound)
    lost = {name: 1 - bound / taken for name, taken in found.items()}
    shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in lost.items())
    took = time.perf_counter() - start
    count = len(traces[-1].records)
    print(
        f"{case.name}: {count} buffers, at least {bound / 2**30:.3f} GiB: {shown} ({took:.1f} s)",
        flush=True,
    )
    return lost


def row(case: str, metric: str, value: float, baseline: str | None, other: float | None) -> Row:
    """A simulated number; less is better. What is below 0.01 % counts as that in the ratio."""
    ratio = None if other is None else other / max(value, 1e-4)
    where, version = device_name(), jax.__version__
    return Row(
        BENCH, case, metric, value, "share", baseline, ratio, 1, where, version, "simulation"
    )


def rows(quick: bool) -> list[Row]:
    """Fragmentation of all traces, and the mean reduction against PyTorch's allocator."""
    found, reductions = [], []
    for case in cases(quick):
        lost = fragmentation(case)
        for peer in (*PEERS, "bfc"):
            name = f"trace-{case.name}"
            found.append(row(name, "fragmentation", lost["planned"], peer, lost[peer]))
        if "oracle" in lost:
            name = f"trace-{case.name}-oracle"
            found.append(row(name, "fragmentation", lost["oracle"], None, None))
        reductions.append(1 - lost["planned"] / lost["torch-caching"])
    mean = statistics.mean(reductions)
    print(f"mean reduction against torch-caching: {100 * mean:.1f} % over {len(reductions)} traces")
    return [*found, row("trace-mean", "fragmentation_reduction", mean, "torch-caching", None)]
