"""loomax nas search: the most accurate network of a supernet within a latency, in files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from loomax.cli.nas_table import default_path
from loomax.cli.runs import check_kind, find_run
from loomax.nas.evolve.config import Measure
from loomax.runtime.config import parse_options
from loomax.runtime.options import AtLeastOne, Bound, NotNegative, OutFolder, Positive
from loomax.runtime.owner import own
from loomax.runtime.places import check_folder

PROG = "loomax nas search"
DESCRIPTION = """Searches a trained supernet for networks that are accurate and fast (NSGA-II over
accuracy and latency, within a limit), takes the best one out of it, and writes it as safetensors,
Orbax and StableHLO. The search looks at two thirds of the run's validation images, the others
pick the winner, and the test images are used once. Stopped at any time it goes on with the same
command."""


@dataclass(frozen=True)
class Options:
    """What is searched for."""

    run: str
    """a run of loomax nas train: a folder, or a name under --runs"""
    latency_ms: Positive
    """what a forward pass may take, milliseconds"""
    device: str = "cpu"
    """whose latency it is, as in loomax nas table"""
    table: str = ""
    """of latencies; default: tables/SPACE-DEVICE.json; a roofline-... device needs none"""
    batch: AtLeastOne = 1
    """images of a forward pass, as in the table"""
    at_least_ms: Annotated[float, Bound(0)] = 0.0
    """leave faster networks out"""
    candidates: AtLeastOne = 1000
    """networks that are judged"""
    population: Annotated[int, Bound(2)] = 64
    """networks that the next ones are made from"""
    random: NotNegative = 0
    """also judge so many random networks, and compare"""
    finetune: NotNegative = 0
    """train the found network for so many steps"""
    measure: Measure = "confidence"
    """of the judged networks: mean probability of the right class, or accuracy (noisier)"""
    seed: int = 0
    """of the search"""
    out: OutFolder = ""
    """folder; default: RUN/search/DEVICE-LATENCYms"""
    runs: str = "runs"
    """where runs live"""
    wait: bool = False
    """until another process that writes to --out has ended, instead of being refused"""


def main(argv: Sequence[str]) -> None:
    options = parse_options(Options, argv, PROG, DESCRIPTION)

    if options.at_least_ms > options.latency_ms:
        raise ValueError(
            f"--at-least-ms is {options.at_least_ms:g} and --latency-ms {options.latency_ms:g}: "
            "nothing lies between them"
        )
    run = find_run(options.run, Path(options.runs), ["supernet"])

    from loomax.nas.evolve.config import EvolveConfig
    from loomax.nas.oracle.devices import oracle_of

    oracle = oracle_of(options.device, options.batch)
    evolve = EvolveConfig(options.candidates, options.population, seed=options.seed)
    name = f"{options.device}-{options.latency_ms:g}ms"
    out = Path(options.out) if options.out else run / "search" / name
    check_folder(out, "--out")
    with own(out, wait=options.wait, advice="wait for it to end (--wait), or give another --out"):
        search(options, evolve, oracle, run, out)


def search(options: Options, evolve, oracle, run: Path, out: Path) -> None:
    """Searches, and writes what was found to `out`."""
    find_table(options, oracle, str(check_kind(run, ["supernet"])["space"]))

    from loomax.runtime.compile import setup_cpu

    setup_cpu()

    from loomax.nas.evolve.handover import SearchConfig, search_and_export
    from loomax.nas.train.evaluate import open_run

    trained = open_run(run)
    latency, origin = predictor(options, oracle, trained.space, trained.config.space)
    config = SearchConfig(
        options.device,
        options.latency_ms / 1e3,
        options.at_least_ms / 1e3,
        evolve,
        options.random,
        options.finetune,
        options.measure,
    )
    found = search_and_export(trained, latency, config, out, origin, True)
    print("\n".join(lines(found, config)))


def predictor(options: Options, oracle, space, name: str) -> tuple:
    """The predictor of latencies, and where it comes from.

    Raises:
        ValueError: there is no table, or it is of another device or space.
    """
    from loomax.nas.oracle.predict import bound_predictor, predictor_of
    from loomax.nas.oracle.table import check_origin, origin_of, read_table

    wanted = origin_of(oracle, space, name)
    path = find_table(options, oracle, name)
    if path is None:
        return bound_predictor(space, oracle), asdict(wanted)
    table = read_table(path)
    # Tables serve on other machines than those that they were made on.
    check_origin(path, table.origin, wanted, but=("version", "dtype"))
    return predictor_of(space, table), asdict(table.origin)


def find_table(options: Options, oracle, name: str) -> Path | None:
    """The file of latencies; None where a bound needs none.

    Raises:
        ValueError: there is no such file.
    """
    if oracle.source == "roofline" and not options.table:
        return None
    path = Path(options.table or default_path(name, options.device))
    if not path.is_file():
        raise ValueError(
            f"no latency table {path}: make it with `loomax nas table --space {name} --device"
            f" {options.device} --out {path}`"
        )
    return path


def lines(found, config) -> list[str]:
    """The result in words, and where its files are."""
    outcome = found.outcome
    rows = [
        f"  {c.latency * 1e3:10.4g} ms  search {c.score:.1%}  validation {validation:.1%}"
        for c, validation in zip(outcome.front, outcome.validation, strict=True)
    ]
    winner = outcome.winner
    said = [
        f"{len(outcome.candidates)} networks judged by {config.measure}; front on {config.device}:",
        *rows,
        f"winner: {winner.latency * 1e3:.4g} ms, test accuracy {outcome.test:.1%}",
    ]
    if found.random:
        said.append(
            f"best of {len(found.random.candidates)} random ones:"
            f" {found.random.winner.latency * 1e3:.4g} ms, test accuracy {found.random.test:.1%}"
        )
    worst = max(found.errors.values())
    said.append(f"read again, logits differ by at most {worst:.1e}")
    return [*said, "", *(f"{kind:<16}{path}" for kind, path in found.paths.items())]
