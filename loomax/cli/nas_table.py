"""loomax nas table: latencies of a space's blocks, and how well they predict networks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from loomax.runtime.config import parse_options
from loomax.runtime.options import AtLeastOne, NotNegative, OutFile, Positive
from loomax.runtime.places import check_file

PROG = "loomax nas table"
DESCRIPTION = """Finds the latency of every block of a space and writes a table for `loomax nas
search`; then measures whole networks, and says how well sums over blocks predict them. Stopped at
any time it goes on with the same command.

--device cpu          this machine, measured: CPU time of all threads
--device v5e          the TPU compiler's estimate (v4, v5e, v5p, v6e; needs loomax[tpu-aot])
--device roofline-v5e a bound from arithmetic and bytes (also v6e, v5p, v4, a100, h100)"""


@dataclass(frozen=True)
class Options:
    """What is measured, and where it goes."""

    device: str = "cpu"
    """cpu, v4, v5e, v5p, v6e, or roofline-CHIP"""
    space: str = "digits"
    """digits, digits-debug or elasticvit"""
    classes: NotNegative = 0
    """of the classifier; 0 takes the space's own number"""
    out: OutFile = ""
    """the table; default: tables/SPACE-DEVICE.json"""
    batch: AtLeastOne = 1
    """images of one forward pass"""
    dtype: str = ""
    """default: float32 on the CPU, bfloat16 elsewhere"""
    fitted: NotNegative = 8
    """random networks that the sum over blocks is fitted to"""
    held_out: NotNegative = 16
    """further ones that predictions are judged on"""
    max_load: Positive = 0.5
    """cpu: cores that others may keep busy; more is refused"""
    seed: int = 0
    """of the networks"""


def main(argv: Sequence[str]) -> None:
    options = parse_options(Options, argv, PROG, DESCRIPTION)

    from loomax.nas.oracle.config import CpuConfig
    from loomax.nas.oracle.devices import oracle_of

    cpu = CpuConfig(max_load=options.max_load)
    oracle = oracle_of(options.device, options.batch, options.dtype or None, cpu)
    space = space_of(options.space, options.classes)
    path = options.out or default_path(options.space, options.device)
    check_file(path, "--out")
    if oracle.source != "roofline":
        # What is compiled for a TPU is not run, and must not wait for one.
        os.environ["JAX_PLATFORMS"] = "cpu"

        from loomax.runtime.compile import setup_cpu

        setup_cpu()

    from loomax.nas.oracle.build import build_table

    table = build_table(
        space, options.space, oracle, path, options.fitted, options.held_out, options.seed, True
    )
    print("\n".join(lines(space, table, cpu.noise)))
    print(f"table           {path}")


def lines(space, table, bound: float) -> list[str]:
    """What a table holds, in words."""
    from loomax.nas.oracle.predict import judge, predictor_of

    origin = table.origin
    seconds = sorted(reading.seconds for reading in table.readings.values())
    found = [
        f"{len(seconds)} blocks of {origin.space} on {origin.device} ({origin.source},"
        f" {origin.dtype}, batch {origin.batch}): {seconds[0] * 1e6:.3g} to"
        f" {seconds[-1] * 1e6:.3g} us"
    ]
    if origin.source == "measured":
        noisy = sum(reading.noise > bound for reading in table.readings.values())
        found.append(f"noise above {bound:.0%}: {noisy} of {len(seconds)} blocks")
    predict = predictor_of(space, table)
    if table.networks:
        found.append(
            f"a network = {predict.scale:.3g} x the sum of its blocks"
            f" + {predict.constant * 1e6:.3g} us"
        )
    judged = judge(space, table)
    found.append(str(judged) if judged else "a network = the sum of its blocks, by definition")
    return found


def space_of(name: str, classes: int):
    """The space called `name`.

    Raises:
        ValueError: there is none, or `classes` is negative.
    """
    from loomax.nas.train.spaces import SPACES, space_named

    if classes < 0:
        raise ValueError(f"classes is {classes}: give 1 or more, or 0 for the space's own number")
    return SPACES[name]() if name in SPACES and not classes else space_named(name, classes)


def default_path(space: str, device: str) -> str:
    """Where tables lie if nobody says."""
    return f"tables/{space}-{device}.json"
