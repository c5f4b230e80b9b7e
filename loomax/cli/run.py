"""loomax run: run a program with its large buffers recorded or planned."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loomax.runtime.config import fail, parse_options
from loomax.runtime.options import NotNegative, OutFile, Positive

DESCRIPTION = """Runs a program with the arena between XLA:CPU and libc (Linux, opt-in):

  loomax run --record LOG.jsonl -- python train.py     writes what it allocates
  loomax run --plan LOG.jsonl --out PLAN.json          plans the loop in it
  loomax run --arena PLAN.json -- python train.py      runs it at the planned offsets

Without --record, --plan and --arena the program only keeps to --budget. That counts what XLA:CPU
asks for, through posix_memalign and aligned_alloc: JAX's arrays and temporaries. What comes from
malloc (NumPy's arrays, Python's objects) or from mmap is neither counted nor stopped."""


@dataclass(frozen=True)
class Options:
    """What is done; the program and its arguments stand after `--`."""

    record: OutFile | None = None
    """write the program's requests to this file, as JSON lines"""
    plan: str | None = None
    """plan from this log; runs nothing"""
    out: OutFile | None = None
    """where --plan writes the plan"""
    arena: str | None = None
    """serve the program's requests from this plan"""
    budget: str | None = None
    """bytes that XLA:CPU may hold, such as 15GiB: a request beyond them fails; NumPy's arrays and
    all else that comes from malloc are not counted"""
    threshold: NotNegative = 65536
    """smaller requests are libc's, in bytes"""
    check: bool = False
    """check every event for overlaps, and overwrite what is freed"""
    huge_pages: bool = True
    """ask for huge pages"""
    time_limit: Positive = 10.0
    """seconds of planning at most"""


def run(argv: Sequence[str], prog: str) -> None:
    argv = list(argv)
    split = argv.index("--") if "--" in argv else len(argv)
    command = argv[split + 1 :]
    options = parse_options(Options, argv[:split], prog, DESCRIPTION)
    named = [n for n in ("record", "plan", "arena") if getattr(options, n) is not None]
    if len(named) > 1:
        fail(prog, f"--{named[0]} and --{named[1]}: give one of them")
    if options.plan is not None:
        if command:
            fail(prog, "--plan runs nothing: leave -- and what follows out")
        return plan_file(options.plan, options, prog)
    if not command:
        fail(prog, "no program: give it after --, such as -- python train.py")
    if not named and options.budget is None:
        fail(prog, "nothing to do: give --record, --plan, --arena or --budget")
    start(command, options, prog)


def plan_file(log: str, options: Options, prog: str) -> None:
    """Plans from a log."""
    if options.out is None:
        fail(prog, "--plan needs --out PLAN.json")

    from loomax.memory.arena.plan_file import plan_log, write_plan
    from loomax.memory.lifetimes.log_file import read_log
    from loomax.memory.planner.config import PackConfig

    plan = plan_log(read_log(log), PackConfig(seconds=options.time_limit))
    write_plan(plan, options.out)
    left = sum(offset < 0 for _, offset, _ in plan.requests)
    print(
        f"{len(plan.requests)} requests a round, {left} of them left to libc; {plan.bytes:,} bytes "
        f"(at least {plan.lower_bound:,}), program {plan.program:016x}"
    )


def start(command: Sequence[str], options: Options, prog: str) -> None:
    """Becomes the program."""
    from loomax.jaxlib_ext import arena
    from loomax.memory.arena.plan_file import read_plan
    from loomax.runtime.sizes import MOST, parse_bytes

    budget = None if options.budget is None else parse_bytes(options.budget, "--budget")
    if not 1 <= options.threshold <= MOST:
        fail(prog, f"--threshold is {options.threshold}: give 1 to {MOST} bytes")
    if options.arena is not None:
        bytes_ = read_plan(options.arena).bytes
        if budget is not None and bytes_ > budget:
            fail(prog, f"--budget {budget} is below the {bytes_} bytes of {options.arena}")
    if shutil.which(command[0]) is None:
        fail(prog, f"cannot run {command[0]!r}: no such program")
    if options.record is not None and not Path(options.record).resolve().parent.is_dir():
        fail(prog, f"cannot write {options.record}: no such folder")
    if not arena.available():
        fail(prog, "the arena is not built: python -m loomax.jaxlib_ext.build")
    settings = arena.ArenaOptions(
        log=options.record,
        plan=options.arena,
        budget=budget,
        threshold=options.threshold,
        huge_pages=options.huge_pages,
        check=options.check,
    )
    environment = {**os.environ, **arena.environment(settings)}
    if options.record is None:
        os.execvpe(command[0], list(command), environment)
    raise SystemExit(record(command, environment, Path(options.record), options.threshold, prog))


def record(
    command: Sequence[str], environment: Mapping[str, str], log: Path, threshold: int, prog: str
) -> int:
    """Runs the program, waits for it and returns its exit code; 1 where there is nothing to plan.

    A process that a signal ends has 128 and the signal's number, as in a shell.
    """
    log.unlink(missing_ok=True)
    child = subprocess.Popen(list(command), env=dict(environment))
    # From a terminal the program gets Ctrl-C itself; what is sent to this process is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    code = child.wait()
    if code == 0 and not log.exists():
        print(
            f"{prog}: {command[0]} made no request of at least {threshold} bytes through "
            f"posix_memalign or aligned_alloc (JAX on CPU does): there is no {log}",
            file=sys.stderr,
        )
        return 1
    return code if code >= 0 else 128 - code
