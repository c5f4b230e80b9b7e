"""Runs on the command line: where they are, and of which kind. Imports no JAX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loomax.runtime.config import unknown
from loomax.runtime.files import read_json
from loomax.runtime.places import check_folder

# Kind -> what trains it, and fields that only its configuration has.
KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "policy": ("loomax train", ("env", "policy", "rl")),
    "language model": ("loomax train lm", ("model", "stages")),
    "searcher": ("loomax train search", ("model", "world", "exam")),
    "supernet": ("loomax nas train", ("space", "sampler", "distill")),
}
# And the verb for what was trained.
USES = {
    "policy": "loomax eval",
    "language model": "loomax eval perplexity",
    "searcher": "loomax search ask --model",
    "supernet": "loomax nas search --run",
}
CONFIG = "config.json"


def find_run(name: str, root: Path, kinds: Sequence[str] = tuple(KINDS)) -> Path:
    """The folder of a run of one of `kinds`, given as a path or as a name under `root`.

    Raises:
        ValueError: there is no such run, or it is of another kind.
    """
    for path in (Path(name), root / name):
        if is_run(path):
            check_kind(path, kinds)
            return path
    known = sorted(path.parent.name for path in root.glob(f"*/{CONFIG}"))
    raise ValueError(unknown("run", name, known) if known else f"no run in {root}: train one first")


def is_run(path: Path) -> bool:
    """True when a run was started in `path`."""
    return (path / CONFIG).is_file()


def check_kind(path: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """The configuration of the run in `path`, as it was written.

    Raises:
        ValueError: it cannot be read, or is of none of `kinds`.
    """
    held = read_json(path / CONFIG)
    found = kind_of(held)
    if found in kinds:
        return held
    wanted = " or ".join(f"a {kind} ({KINDS[kind][0]})" for kind in kinds)
    what = f"no run: {CONFIG} is of none of its kinds"
    if found:
        what = f"the run of a {found}, for {USES[found]} {path.name}"
    raise ValueError(f"{path} is {what}: give one of {wanted}")


def kind_of(held: Any) -> str | None:
    """What a configuration trains; None where nothing does."""
    if not isinstance(held, dict):
        return None
    return next((kind for kind, (_, fields) in KINDS.items() if {*fields} <= {*held}), None)


def check_root(runs: str | None) -> Path:
    """The folder of runs, where they can be written.

    Raises:
        ValueError: it is no folder, or nothing can be written there.
    """
    check_folder(runs or "runs", "--runs")
    return Path(runs or "runs")
