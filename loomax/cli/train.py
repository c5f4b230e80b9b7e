"""loomax train: a named config, single fields changed, in a run folder of its own."""

import importlib
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from loomax.cli.items import take_items
from loomax.cli.runs import check_kind, check_root, is_run
from loomax.runtime.begun import check_seed
from loomax.runtime.config import fail, merge, parse, take_flag, take_option, unknown
from loomax.runtime.files import check_run_name, run_directory
from loomax.runtime.owner import BUSY, own, owner
from loomax.runtime.places import check_folder

# What is trained -> the package that has its `presets.CONFIGS` and `train.train`.
KINDS = {
    "policy": "loomax.agents.rl",
    "lm": "loomax.agents.pretrain",
    "search": "loomax.agents.search.train",
}
# Its kind of run, as `loomax.cli.runs` calls it.
TRAINED = {"policy": "policy", "lm": "language model", "search": "searcher"}

DESCRIPTION = """Trains {what} and writes everything to runs/RUN.

--name RUN   the run's folder; default: the name of the config, with a number if that is taken
--resume     go on with RUN (default: the config's newest run), with its own config unless
             --config is given; starts it when there is nothing to go on with
--runs DIR   where runs live (default: runs)
--wait       until another process that writes to RUN has ended, instead of being refused
--fit SIZE   search for the form of the step with the least arithmetic whose peak is at most SIZE
             on each device, such as 2GiB, and train in that form; a run that goes on keeps the
             form that it began in"""
WHAT = {
    "policy": "a policy (`loomax train lm --help`: a language model)",
    "lm": "a language model on documents",
    "search": "a small searcher on solved questions of the invented world",
}


def run(argv: Sequence[str], prog: str) -> None:
    words, prog_given = take_flag(argv, "--wait")[1], prog
    kind, argv = take_kind(argv, prog)
    configs = importlib.import_module(f"{KINDS[kind]}.presets").CONFIGS
    prog = prog if kind == "policy" else f"{prog} {kind}"

    name, argv = take_option(argv, "--name", prog)
    runs, argv = take_option(argv, "--runs", prog)
    budget, argv = take_budget(argv, prog)
    resume, argv = take_flag(argv, "--resume")
    wait, argv = take_flag(argv, "--wait")
    chosen, rest = take_option(argv, "--config", prog)
    root = check_root(runs)
    fallback = chosen or next(iter(configs))
    named_by_hand = name is not None
    name = name or default_name(root, fallback, resume)
    if wait:
        return when_free(root, name, lambda: run([*words, "--name", name], prog_given))
    check_place(root, name, resume, TRAINED[kind])
    named = dict(configs)
    if resume and chosen is None and is_run(root / name):
        held = check_kind(root / name, [TRAINED[kind]])
        fallback = next((n for n in configs if n == held.get("name")), fallback)
        named[fallback] = merge(configs[fallback], held)
    if fallback in named:
        named[fallback], rest = take_items(named[fallback], rest, prog)
    text = DESCRIPTION.format(what=WHAT[kind])
    config = parse(named, ["--config", fallback, *rest], prog, text)
    if kind == "policy":
        config.check_weights()
    check_early(config)
    check_seed(root / name, config.seed)
    with own(root / name, advice=BUSY) if alone() else nullcontext():
        start(kind, config, root / name, budget, shared=resume and named_by_hand)


def start(kind: str, config: Any, path: Path, budget: int | None, *, shared: bool) -> None:
    """Trains in the folder `path`.

    Args:
        shared: whether several processes would find the same folder.
    """
    from loomax.runtime.compile import setup_cpu
    from loomax.runtime.distributed import initialize_distributed

    setup_cpu()
    initialize_distributed()

    import jax

    if jax.process_count() > 1 and not shared:
        raise ValueError("several processes: give --name and --resume, so that all use one run")

    if budget is not None and not is_run(path):
        config = fitted(config, budget)

    train = importlib.import_module(f"{KINDS[kind]}.train").train
    train(config, run_directory(path.parent, path.name))


def alone() -> bool:
    """Whether this is the only process of its training; of several, the first owns the run."""
    several = os.environ.get("LOOMAX_PROCESSES", "1") != "1"
    return not several and "," not in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def when_free(root: Path, name: str, call: Callable[[], None]) -> None:
    """Calls once no other process writes to the run.

    Raises:
        ValueError: this is one of several processes, which would wait for each other.
    """
    if not alone():
        raise ValueError("--wait is for one process: of several, only the first owns the run")
    check_run_name(name)
    check_folder(root / name, "--name")
    with own(root / name, wait=True):
        call()


def take_budget(argv: Sequence[str], prog: str) -> tuple[int | None, list[str]]:
    """Splits `--fit SIZE` off `argv`, in bytes."""
    from loomax.runtime.sizes import parse_bytes

    text, rest = take_option(argv, "--fit", prog)
    return None if text is None else parse_bytes(text, "--fit"), rest


def fitted(config: Any, budget: int) -> Any:
    """The config in the form that fits into `budget` bytes of each device of this machine.

    Raises:
        ValueError: no form does.
    """
    from loomax.agents.fitting import fit_config, subject_of
    from loomax.memory.report.text import bytes_text
    from loomax.runtime.target import target_here

    target = target_here(config.mesh)
    subject = subject_of(config, None, target.mesh)
    print(f"fitting {subject.title} into {bytes_text(budget)} a device", flush=True)
    # A run compiles its step with JAX's own options.
    plan = fit_config(subject, target, budget, levers=False)
    print("\n".join(plan.lines()))
    return subject.apply(plan.chosen.form)


def take_kind(argv: Sequence[str], prog: str) -> tuple[str, list[str]]:
    """Splits a leading word off `argv` that says what is trained; a policy without one."""
    if not argv or argv[0].startswith("-"):
        return "policy", list(argv)
    if argv[0] not in KINDS:
        fail(prog, unknown("kind of model", argv[0], KINDS))
    return argv[0], list(argv[1:])


def check_place(root: Path, name: str, resume: bool, kind: str) -> None:
    """Refuses a run's folder that cannot be written, or holds another run.

    Raises:
        ValueError: naming the folder and what to give instead.
    """
    check_run_name(name)
    check_folder(root / name, "--name")
    if not is_run(root / name):
        return
    if not resume:
        raise ValueError(f"{root / name} exists: add --resume to go on, or give another --name")
    check_kind(root / name, [kind])


def check_early(config: Any) -> None:
    """Refuses what no number of devices makes right, before JAX is asked for the devices here.

    Raises:
        ValueError: see the configuration's own `validate`.
    """
    mesh = getattr(config, "mesh", None)
    config.validate(max(1, config.subnets) if mesh is None else mesh.least)


def default_name(root: Path, config: str, resume: bool) -> str:
    """`config`, `config-2`, ...: the first that is free, or with `resume` the last that is not."""
    number = 1
    while is_run(path := root / _numbered(config, number)) or (not resume and owner(path)):
        number += 1
    return _numbered(config, max(number - 1, 1) if resume else number)


def _numbered(config: str, number: int) -> str:
    return config if number == 1 else f"{config}-{number}"
