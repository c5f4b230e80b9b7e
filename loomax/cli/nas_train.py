"""loomax nas train: a supernet, in a run folder of its own."""

from collections.abc import Sequence

from loomax.cli.runs import check_kind, check_root, is_run
from loomax.cli.train import check_early, check_place, default_name, when_free
from loomax.runtime.begun import check_seed
from loomax.runtime.config import merge, parse, take_flag, take_option
from loomax.runtime.files import run_directory
from loomax.runtime.owner import BUSY, own

PROG = "loomax nas train"
DESCRIPTION = """Trains a supernet and writes everything to runs/RUN.

--name RUN   the run's folder; default: the name of the config, with a number if that is taken
--resume     go on with RUN (default: the config's newest run), with its own config unless
             --config is given; starts it when there is nothing to go on with
--runs DIR   where runs live (default: runs)
--wait       until another process that writes to RUN has ended, instead of being refused"""


def main(argv: Sequence[str]) -> None:
    words = take_flag(argv, "--wait")[1]

    from loomax.nas.train.presets import CONFIGS

    name, argv = take_option(argv, "--name", PROG)
    runs, argv = take_option(argv, "--runs", PROG)
    resume, argv = take_flag(argv, "--resume")
    wait, argv = take_flag(argv, "--wait")
    chosen, rest = take_option(argv, "--config", PROG)
    root, fallback = check_root(runs), chosen or next(iter(CONFIGS))
    name = name or default_name(root, fallback, resume)
    if wait:
        return when_free(root, name, lambda: main([*words, "--name", name]))
    check_place(root, name, resume, "supernet")
    named = dict(CONFIGS)
    if resume and chosen is None and is_run(root / name):
        held = check_kind(root / name, ["supernet"])
        fallback = next((n for n in CONFIGS if n == held.get("name")), fallback)
        named[fallback] = merge(CONFIGS[fallback], held)
    config = parse(named, ["--config", fallback, *rest], PROG, DESCRIPTION)
    check_early(config)
    check_seed(root / name, config.seed)
    with own(root / name, advice=BUSY):
        from loomax.runtime.compile import setup_cpu

        setup_cpu()

        from loomax.nas.train.train import train

        train(config, run_directory(root, name))
