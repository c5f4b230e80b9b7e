"""loomax train: a named config, single fields changed, in a run folder of its own."""

import json
from collections.abc import Sequence
from pathlib import Path

from loomax.runtime.config import merge, parse, take_flag, take_option
from loomax.runtime.files import run_directory

DESCRIPTION = """Trains a policy and writes everything to runs/RUN.

--name RUN   the run's folder; default: the name of the config, with a number if that is taken
--resume     go on with RUN (default: the config's newest run), with its own config unless
             --config is given; starts it when there is nothing to go on with
--runs DIR   where runs live (default: runs)"""


def run(argv: Sequence[str], prog: str) -> None:
    from loomax.agents.rl.presets import CONFIGS

    name, argv = take_option(argv, "--name", prog)
    runs, argv = take_option(argv, "--runs", prog)
    resume, argv = take_flag(argv, "--resume")
    chosen, rest = take_option(argv, "--config", prog)
    root = Path(runs or "runs")
    fallback = chosen or next(iter(CONFIGS))
    named_by_hand = name is not None
    name = name or default_name(root, fallback, resume)
    named = dict(CONFIGS)
    if resume and chosen is None and is_run(root / name):
        held = json.loads((root / name / "config.json").read_text(encoding="utf-8"))
        fallback = held["name"] if held.get("name") in CONFIGS else fallback
        named[fallback] = merge(CONFIGS[fallback], held)
    config = parse(named, ["--config", fallback, *rest], prog, DESCRIPTION)
    if is_run(root / name) and not resume:
        raise ValueError(f"{root / name} exists: add --resume to go on, or give another --name")

    from loomax.runtime.compile import setup_cpu
    from loomax.runtime.distributed import initialize_distributed

    setup_cpu()
    initialize_distributed()

    import jax

    if jax.process_count() > 1 and not (resume and named_by_hand):
        raise ValueError("several processes: give --name and --resume, so that all use one run")

    from loomax.agents.rl.train import train

    train(config, run_directory(root, name))


def is_run(path: Path) -> bool:
    """True when a run was started in `path`."""
    return (path / "config.json").is_file()


def default_name(root: Path, config: str, resume: bool) -> str:
    """`config`, `config-2`, ...: the first that is free, or with `resume` the last that is not."""
    number = 1
    while is_run(root / _numbered(config, number)):
        number += 1
    return _numbered(config, max(number - 1, 1) if resume else number)


def _numbered(config: str, number: int) -> str:
    return config if number == 1 else f"{config}-{number}"
