"""loomax bench: run one file of benchmarks/."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

import loomax
from loomax.runtime.config import parse_options, unknown

ROOT = Path(loomax.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Options:
    """What is measured, and where the rows go."""

    name: Positional[str]
    """name of the benchmark"""
    quick: bool = False
    """smaller sizes and fewer repetitions"""
    only: tuple[str, ...] = ()
    """some of the benchmark's parts, where it has parts"""
    json: str | None = None
    """write the rows to this file too, one JSON object a line"""


def run(argv: Sequence[str], prog: str) -> None:
    known = benchmarks(ROOT)
    listed = ", ".join(known) or "none here: they come with the repository, not with the wheel"
    options = parse_options(Options, argv, prog, f"Runs a benchmark: {listed}.")
    if not known:
        raise ValueError(f"no benchmarks in {ROOT}: run from a clone of the repository")
    if options.name not in known:
        raise ValueError(unknown("benchmark", options.name, known))

    from loomax.runtime.compile import setup_cpu

    setup_cpu()
    sys.path.insert(0, str(ROOT))
    module = importlib.import_module("benchmarks." + options.name.replace("-", "_"))
    path = Path(options.json) if options.json else None
    if not options.only:
        return module.main(options.quick, path)
    parts = tuple(getattr(module, "PARTS", ()))
    if not parts:
        raise ValueError(f"{options.name} has no parts: leave --only out")
    for name in options.only:
        if name not in parts:
            raise ValueError(unknown("part", name, parts))
    module.main(options.quick, path, options.only)


def benchmarks(root: Path) -> list[str]:
    """Names of the benchmarks in a clone at `root`; none when there is no such folder."""
    if not (root / "pyproject.toml").is_file():
        return []
    files = sorted((root / "benchmarks").glob("[!_]*.py"))
    return [path.stem.replace("_", "-") for path in files]
