"""loomax plan: plan memory. `plan memory` fits a configuration, `plan pack` places buffers."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from loomax.runtime.config import fail, parse_options, take_command
from loomax.runtime.options import Bound, NotNegative, OutFile, Positive

DESCRIPTION = """usage: loomax plan memory --config NAME [OPTIONS]
       loomax plan rl --config NAME [OPTIONS]
       loomax plan pack FILE.csv [OPTIONS]    (--help after each lists them)

`memory` finds the form of a training step that fits into a budget, on a machine that need not be
here, draws its buffers, or checks it against allowed bytes. `rl` plans where and when the stages of
an iteration run. `pack` gives offsets to buffers with
known lifetimes."""
PACK_DESCRIPTION = """Gives every buffer of a file an offset, so that buffers that live at once do
not overlap. Reads CSV with the columns id,lower,upper,size (a buffer lives in [lower, upper)),
JSON, or a memory snapshot of PyTorch (torch.cuda.memory._dump_snapshot, *.pickle or *.pkl)."""


# Buffers from which on progress is told.
MANY = 100_000


@dataclass(frozen=True)
class PackOptions:
    """What is packed, and what for."""

    file: Positional[str]
    """a CSV file id,lower,upper,size, a trace as JSON, or a snapshot of PyTorch"""
    capacity: int | None = None
    """stop at the first plan of at most this many bytes; default: look for the least peak"""
    json: OutFile | None = None
    """write offsets, peak, lower bound and seconds to this file"""
    time_limit: Positive = 30.0
    """seconds, reading included, after which the best plan so far is taken"""
    gap: Annotated[float, Bound(0)] = 0.0
    """without a capacity, a peak of (1 + gap) lower bounds is good enough"""
    seed: int = 0
    """of the search"""
    threads: NotNegative = 0
    """searches side by side; 0 takes one for each core"""
    device: NotNegative | None = None
    """of a snapshot of PyTorch: whose events; default: of the only device that has any"""
    strategy: str = "portfolio"
    """portfolio, or groups: buffers of one phase as blocks"""


def run(argv: Sequence[str], prog: str) -> None:
    name, rest = take_command(argv, "plan", PROGRAMS, prog, DESCRIPTION)
    PROGRAMS[name](rest, f"{prog} {name}")


def run_pack(argv: Sequence[str], prog: str) -> None:
    """loomax plan pack FILE."""
    start = time.monotonic()
    options = parse_options(PackOptions, argv, prog, PACK_DESCRIPTION)

    from loomax.memory.planner.config import PackConfig
    from loomax.memory.planner.pack import pack
    from loomax.memory.planner.plan import check_plan
    from loomax.runtime.files import atomic_write

    try:
        config = PackConfig(
            capacity=options.capacity,
            seconds=options.time_limit,
            gap=options.gap,
            seed=options.seed,
            threads=options.threads,
            strategy=options.strategy,
        )
        trace = read_trace(options, start)
        left = max(options.time_limit - (time.monotonic() - start), 1e-3)
        if len(trace.records) >= MANY:
            say(f"planning {len(trace.records):,} buffers, {left:.0f} s left at most", start)
        plan = pack(trace, dataclasses.replace(config, seconds=left))
    except ValueError as error:
        fail(prog, " ".join(str(error).split()))
    check_plan(trace, plan.offsets, plan.peak)
    print(summary(len(trace.records), plan, options.capacity))
    if options.json is not None:
        result = {
            "offsets": dict(plan.offsets),
            "peak": plan.peak,
            "lower_bound": plan.lower_bound,
            "seconds": plan.seconds,
        }
        atomic_write(options.json, json.dumps(result) + "\n")
    if options.capacity is not None and plan.peak > options.capacity:
        fail(prog, _misfit(plan, options))


def read_trace(options: PackOptions, start: float) -> Any:
    """The trace in the file, by its suffix.

    Raises:
        ValueError: the file cannot be read, or is broken.
    """
    from loomax.memory.lifetimes.csv_file import read_csv
    from loomax.memory.lifetimes.json_file import read_json
    from loomax.memory.lifetimes.torch_file import read_torch

    suffix = Path(options.file).suffix.lower()
    if suffix in (".pickle", ".pkl"):
        return read_torch(options.file, options.device)
    if options.device is not None:
        raise ValueError(f"--device: {options.file} is no snapshot of PyTorch (*.pickle, *.pkl)")
    if suffix == ".json":
        return read_json(options.file)
    return read_csv(options.file, lambda rows: say(f"read {rows:,} rows", start))


def say(line: str, start: float) -> None:
    """Progress, for work that takes its time."""
    print(f"{time.monotonic() - start:5.1f} s: {line}", file=sys.stderr, flush=True)


def summary(count: int, plan: Any, capacity: int | None) -> str:
    """The plan in a few lines."""
    proof = "optimal" if plan.optimal else f"{plan.gap:.3%} above it"
    engine = "compiled" if plan.native else "Python (no compiled planner)"
    lines = [
        f"{count} buffers, {plan.seconds:.3f} s, {engine}, found by {plan.method}",
        f"peak         {plan.peak:>16,} bytes, {proof}",
        f"lower bound  {plan.lower_bound:>16,} bytes",
    ]
    if capacity is not None:
        used = f" ({plan.peak / capacity:.2%} used)" if capacity else ""
        lines.append(f"capacity     {capacity:>16,} bytes{used}")
    return "\n".join(lines)


def _misfit(plan: Any, options: PackOptions) -> str:
    if plan.lower_bound > options.capacity:
        return f"no plan fits into --capacity {options.capacity}: give {plan.lower_bound} or more"
    return (
        f"no plan within --capacity {options.capacity} in {options.time_limit:g} s, the best has "
        f"{plan.peak}: raise --time-limit or --capacity"
    )


def run_memory(argv: Sequence[str], prog: str) -> None:
    """loomax plan memory."""
    from loomax.cli.plan_memory import run

    run(argv, prog)


def run_rl(argv: Sequence[str], prog: str) -> None:
    """loomax plan rl."""
    from loomax.cli.plan_rl import run

    run(argv, prog)


PROGRAMS: Mapping[str, Callable[[Sequence[str], str], None]] = {
    "memory": run_memory,
    "pack": run_pack,
    "rl": run_rl,
}
