"""loomax aot: let the TPU compiler judge a program without a TPU."""

import os
from collections.abc import Sequence
from typing import Any

from loomax.cli.train import check_early
from loomax.runtime.config import fail, parse, take_flag, take_option, unknown
from loomax.runtime.topology import check_compiler, check_topology

PROGRAMS = ("train", "table")
DESCRIPTION = """Compiles a training step for a TPU slice that is not here and prints what the
compiler says. Needs libtpu: pip install 'loomax[tpu-aot]'.

usage: loomax aot train --topology v5e:4x4 --config NAME [--fit] [--field value ...]

--fit  also search for the form of the iteration with the least arithmetic that fits a chip, and for
       the largest number of environments (`loomax plan memory` has more options)

loomax aot table compares all configurations on several slices"""


def run(argv: Sequence[str], prog: str) -> None:
    from loomax.agents.rl.presets import CONFIGS

    named = bool(argv) and not argv[0].startswith("-")
    program, rest = (argv[0], argv[1:]) if named else ("", argv)
    if program == "table":
        from loomax.cli.aot_table import run as run_table

        return run_table(rest, f"{prog} table")
    topology, rest = take_option(rest, "--topology", prog)
    with_fit, rest = take_flag(rest, "--fit")
    config = parse(CONFIGS, rest, prog, DESCRIPTION)
    if program not in PROGRAMS:
        fail(prog, unknown("program", program, PROGRAMS))
    if topology is None:
        fail(prog, "--topology is missing: for example --topology v5e:4x4")
    check_early(config)
    check_topology(topology)
    check_compiler()

    prepare()

    from loomax.agents.rl.aot import compile_train

    compile_train(config, topology)
    if with_fit:
        print("\n".join(fit_lines(config, topology)))


def prepare() -> None:
    """One host device, and no cache: only a real TPU can load what was compiled for one."""
    # libtpu is here to compile only; JAX must not look for a TPU to run on.
    os.environ["JAX_PLATFORMS"] = "cpu"

    from loomax.runtime.aot import compile_without_cache
    from loomax.runtime.compile import setup_cpu

    setup_cpu(devices=1)
    compile_without_cache()


def fit_lines(config: Any, topology: str) -> list[str]:
    """What `fit` says of the iteration on a slice."""
    from loomax.agents.fitting import fit_config, subject_of
    from loomax.runtime.target import parse_target

    target = parse_target(topology, config.mesh)
    subject = subject_of(config, None, target.mesh)
    return fit_config(subject, target, target.bytes_per_device, largest=True).lines()
