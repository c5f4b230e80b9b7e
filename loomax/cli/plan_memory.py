"""loomax plan memory: the form of a configuration's step that fits, a picture of it, a guard."""

import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loomax.runtime.config import fail, parse_options, take_option, unknown
from loomax.runtime.options import OutFile, OutFolder
from loomax.runtime.places import check_folder
from loomax.runtime.topology import check_compiler, check_target

DESCRIPTION = """Asks the compiler how much memory a configuration's training step takes, and which
form of it (what is recomputed, how layers run, microbatches, the compiler's own levers) does least
arithmetic within a budget. The target need not be here: tpu:v5e and v5e:4x4 need libtpu
(pip install 'loomax[tpu-aot]')."""


@dataclass(frozen=True)
class MemoryOptions:
    """What is asked."""

    target: str = "cpu"
    """cpu, tpu:v5e (one chip), v5e:4x4 (a slice), gpu:h100"""
    budget: str | None = None
    """bytes of a device, such as 15GiB: search for the form that fits"""
    program: str | None = None
    """of reinforcement learning: sft, update or iteration (default)"""
    largest: bool = False
    """with --budget: also the largest batch that fits"""
    most: int = 24
    """with --budget: compilations at most"""
    show: OutFolder | None = None
    """draw the buffers over time into this folder: memory.png, memory.html, memory.json"""
    check: str | None = None
    """compare with a file of allowed bytes; exit code 1 where more is taken"""
    record: OutFile | None = None
    """write what is taken now into that file"""
    tolerance: float = 0.01
    """with --check: growth that is allowed, as a share"""


def run(argv: Sequence[str], prog: str) -> None:
    """loomax plan memory --config NAME."""
    chosen, rest = take_option(argv, "--config", prog)
    options = parse_options(MemoryOptions, rest, prog, DESCRIPTION)
    named = configurations()
    if chosen is None or chosen not in named:
        fail(prog, unknown("config", chosen or "", named))
    budget = check_options(options, prog)
    if not (options.budget or options.show or options.check or options.record):
        options = dataclasses.replace(options, show=f"plans/{chosen}")
    check_folder(options.show or "plans", "--show")
    if check_target(options.target) == "tpu":
        check_compiler()
    start_jax(options.target)

    from loomax.agents.fitting import subject_of
    from loomax.memory.report.budget_file import read_budget
    from loomax.runtime.target import parse_target

    if options.check and options.check != options.record:
        read_budget(options.check)  # a file that cannot be read is told before anything is compiled

    config = named[chosen]
    target = parse_target(options.target, config.mesh)
    subject = subject_of(config, options.program, target.mesh)
    print(f"{subject.title}, on {target.name}")
    tries = () if budget is None else search(subject, target, budget, options, prog)
    if options.show or options.check or options.record:
        report(subject, target, options, tries, prog)


def check_options(options: MemoryOptions, prog: str) -> int | None:
    """Refuses wrong values before JAX is imported; returns the budget in bytes."""
    from loomax.runtime.sizes import parse_bytes

    for name in ("show", "check", "record"):
        if getattr(options, name) == "":
            fail(prog, f"--{name} is empty: give a path")
    if options.most < 1:
        fail(prog, f"--most is {options.most}: give at least 1")
    if not 0 <= options.tolerance < math.inf:
        fail(prog, f"--tolerance is {options.tolerance}: give a share of 0 or more")
    if options.budget is None and options.largest:
        fail(prog, "--largest needs --budget")
    return None if options.budget is None else parse_bytes(options.budget, "--budget")


def configurations() -> dict[str, Any]:
    """All shipped configurations by name."""
    from loomax.agents.pretrain.presets import CONFIGS as pretraining
    from loomax.agents.rl.presets import CONFIGS as policies

    return {**policies, **pretraining}


def start_jax(target: str) -> None:
    """JAX on the CPU: every other target is only compiled for."""
    os.environ["JAX_PLATFORMS"] = "cpu"

    from loomax.runtime.compile import setup_cpu

    count = target.partition(":")[2] if target.startswith("cpu:") else ""
    setup_cpu(devices=int(count) if count.isdecimal() else 1)


def search(
    subject: Any, target: Any, budget: int, options: MemoryOptions, prog: str
) -> Sequence[Any]:
    """Prints the plan; returns what was tried."""
    from loomax.agents.fitting import fit_config
    from loomax.memory.forms.estimate import estimate_lines
    from loomax.memory.forms.plan import table
    from loomax.memory.forms.search import DoesNotFitError
    from loomax.memory.report.text import bytes_text

    def tell(found: Any) -> None:
        verdict = found.verdict
        word = "fits" if verdict.fits(budget) else verdict.error or "too large"
        peak = bytes_text(verdict.peak_bytes)
        print(f"  {found}: {peak}, {word} ({verdict.seconds:.0f} s)", flush=True)

    try:
        plan = fit_config(
            subject, target, budget, largest=options.largest, most=options.most, tell=tell
        )
    except DoesNotFitError as error:
        if error.tries:
            print("\n".join(table(error.tries, budget)))
        fail(prog, str(error))
    print("\n".join(plan.lines()))
    given = next((t for t in plan.tries if (t.form, t.batch) == (subject.given, None)), None)
    for line in estimate_lines(plan.chosen, plan.largest, given, subject.rows, target):
        print(line)
    return plan.tries


def report(
    subject: Any, target: Any, options: MemoryOptions, tries: Sequence[Any], prog: str
) -> None:
    """Draws the form that the configuration has, and compares it with what is allowed."""
    from loomax.memory.forms.judge import lower
    from loomax.memory.lifetimes.xla import compile_traced
    from loomax.memory.report.budget import measure
    from loomax.memory.report.report import report
    from loomax.memory.report.summary import summary

    lowered, _ = lower(subject.build(subject.given, None, target.mesh), target)
    _, program = compile_traced(lowered)
    levers = levers_of(tries, subject.given)
    print("\n".join(summary(program, levers)))
    if options.show:
        title = f"{subject.title}, {target.name}, {subject.given}"
        for path in report(program, options.show, title, levers):
            print(f"{path.suffix[1:]:<8}{path}")
    entry = measure(program, subject.title, target.name, lowered.as_text())
    if options.record:
        record(entry, options.record)
    if options.check:
        check(entry, options, prog)


def levers_of(tries: Sequence[Any], given: Any) -> list[Any]:
    """What was tried, as rows of the report; the form in use comes first."""
    from loomax.memory.report.levers import Lever

    tries = [t for t in tries if t.verdict.peak_bytes]
    tries = sorted(tries, key=lambda t: str(t.form) != str(given))
    return [
        Lever(str(t), t.verdict.peak_bytes, t.flops or None, fits=not t.verdict.error)
        for t in tries
    ]


def record(entry: Any, path: str) -> None:
    """Adds an entry to a file of allowed bytes, or replaces it there."""
    from loomax.memory.report.budget_file import read_budget, with_entries, write_budget

    known = read_budget(path) if os.path.exists(path) else {}
    write_budget(with_entries(known, [entry]), path)
    print(f"recorded {entry.name} on {entry.target} in {path}")


def check(entry: Any, options: MemoryOptions, prog: str) -> None:
    """Ends the program with 1 where more is taken than the file allows."""
    from loomax.memory.report.budget_file import read_budget
    from loomax.memory.report.guard import check, improvements

    budget = read_budget(options.check or "")
    for hint in improvements(entry, budget, options.tolerance):
        print(hint)
    violations = check(entry, budget, options.tolerance)
    for line in violations:
        print(f"{prog}: {line}", file=sys.stderr)
    if violations:
        raise SystemExit(1)
    print(f"within {options.check}")
