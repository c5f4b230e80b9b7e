"""loomax aot: let the TPU compiler judge a program without a TPU."""

import os
from collections.abc import Sequence

from loomax.runtime.config import fail, parse, take_option, unknown

PROGRAMS = ("train",)
DESCRIPTION = """Compiles a training step for a TPU slice that is not here and prints what the
compiler says. Needs libtpu: pip install 'loomax[tpu-aot]'.

usage: loomax aot train --topology v5e:4x4 --config NAME [--field value ...]"""


def run(argv: Sequence[str], prog: str) -> None:
    from loomax.agents.rl.presets import CONFIGS

    program, rest = (argv[0], argv[1:]) if argv and argv[0][0] != "-" else (None, argv)
    topology, rest = take_option(rest, "--topology", prog)
    config = parse(CONFIGS, rest, prog, DESCRIPTION)
    if program not in PROGRAMS:
        fail(prog, unknown("program", program or "", PROGRAMS))
    if topology is None:
        fail(prog, "--topology is missing: for example --topology v5e:4x4")

    # libtpu is here to compile only; JAX must not look for a TPU to run on.
    os.environ["JAX_PLATFORMS"] = "cpu"

    from loomax.runtime.aot import compile_without_cache
    from loomax.runtime.compile import setup_cpu

    setup_cpu(devices=1)
    compile_without_cache()

    from loomax.agents.rl.aot import compile_train

    compile_train(config, topology)
