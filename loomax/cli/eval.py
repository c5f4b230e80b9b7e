"""loomax eval: score a run's policy on held-out seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from loomax.runtime.config import parse_options, unknown

DESCRIPTION = "Scores the newest policy of a run on seeds that it was not trained on."


@dataclass(frozen=True)
class Options:
    """What is scored, and how."""

    run: Positional[str]
    """name of a run, or its folder"""
    episodes: int = 512
    """number of held-out episodes"""
    seed: int = 1_000_003
    """seed of the first of them"""
    runs: str = "runs"
    """where runs live"""


def run(argv: Sequence[str], prog: str) -> None:
    options = parse_options(Options, argv, prog, DESCRIPTION)
    if options.episodes < 1:
        raise ValueError(f"--episodes is {options.episodes}: give at least 1")
    path = find_run(options.run, Path(options.runs))

    from loomax.runtime.compile import setup_cpu

    setup_cpu()

    from loomax.agents.rl.scoring import evaluate_checkpoint

    evaluate_checkpoint(path, options.episodes, options.seed)


def find_run(name: str, root: Path) -> Path:
    """The folder of a run, given as a path or as a name under `root`.

    Raises:
        ValueError: there is no such run.
    """
    for path in (Path(name), root / name):
        if (path / "config.json").is_file():
            return path
    known = sorted(path.parent.name for path in root.glob("*/config.json"))
    raise ValueError(unknown("run", name, known) if known else f"no run in {root}: train one first")
