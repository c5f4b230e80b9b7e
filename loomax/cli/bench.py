"""loomax bench: run one file of benchmarks/."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

import loomax
from loomax.runtime.config import parse_options, unknown
from loomax.runtime.options import OutFile

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
    json: OutFile | None = None
    """write the rows to this file too, one JSON object a line"""


def run(argv: Sequence[str], prog: str) -> None:
    known = benchmarks(ROOT)
    listed = ", ".join(known) or "none here: they come with the repository, not with the wheel"
    options = parse_options(Options, argv, prog, f"Runs a benchmark: {listed}.")
    if not known:
        raise ValueError(f"no benchmarks in {ROOT}: run from a clone of the repository")
    if options.name not in known:
        raise ValueError(unknown("benchmark", options.name, known))

    parts, needs = told(ROOT / "benchmarks" / f"{options.name.replace('-', '_')}.py")
    if options.only and not parts:
        raise ValueError(f"{options.name} has no parts: leave --only out")
    for name in options.only:
        if name not in parts:
            raise ValueError(unknown("part", name, parts))
    for package, extra in needs.items():
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{options.name} needs {package}: pip install 'loomax[{extra}]'")

    from loomax.runtime.compile import setup_cpu

    setup_cpu()
    sys.path.insert(0, str(ROOT))
    module = importlib.import_module("benchmarks." + options.name.replace("-", "_"))
    path = Path(options.json) if options.json else None
    more = (options.only,) if options.only else ()
    module.main(options.quick, path, *more)


def told(path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of a benchmark's PARTS, and its NEEDS: packages by the extra that has them.

    Both are dicts that the file writes out; it is read and not run, since it imports JAX.
    """
    found: dict[str, ast.Dict] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if isinstance(getattr(node, "value", None), ast.Dict):
            found |= {target.id: node.value for target in targets if isinstance(target, ast.Name)}
    parts = [ast.literal_eval(key) for key in found["PARTS"].keys] if "PARTS" in found else []
    return parts, ast.literal_eval(found["NEEDS"]) if "NEEDS" in found else {}


def benchmarks(root: Path) -> list[str]:
    """Names of the benchmarks in a clone at `root`; none when there is no such folder."""
    if not (root / "pyproject.toml").is_file():
        return []
    files = sorted((root / "benchmarks").glob("[!_]*.py"))
    return [path.stem.replace("_", "-") for path in files]
