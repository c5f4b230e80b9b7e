"""What a run leaves behind: the result file, the printed table, the before-and-after video."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from loomax.agents.rl.config import TrainConfig
from loomax.agents.rl.interval import wilson
from loomax.runtime.files import atomic_write


@dataclass(frozen=True)
class Score:
    """Successes out of trials, with a 95 % Wilson interval."""

    successes: int
    trials: int

    @property
    def rate(self) -> float:
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.successes, self.trials)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.rate:5.1f} %  [{100 * low:.1f}, {100 * high:.1f}]"


@dataclass(frozen=True)
class Result:
    """Outcome of a training run; written as result.json.

    Attributes:
        success_shuffled_instructions: with one of the other instructions in every episode; None
            where there is only one.
        success_black_images: None for a policy that is shown no images.
        episodes: of every success.
    """

    success_before: float
    success_after: float
    ci95_before: tuple[float, float]
    ci95_after: tuple[float, float]
    success_shuffled_instructions: float | None
    success_black_images: float | None
    episodes: int
    wall_s: float
    env_steps: int
    iterations: int
    config: str
    seed: int


def write_config(path: Path, config: TrainConfig) -> None:
    """Writes the configuration as JSON, from which `scoring.read_config` makes it again."""
    atomic_write(path, json.dumps(asdict(config), indent=2) + "\n")


def write_result(path: Path, result: Result) -> None:
    """Writes result.json atomically."""
    atomic_write(path, json.dumps(asdict(result), indent=2) + "\n")


def table(scores: dict[str, Score]) -> str:
    """Rows of name, success and interval."""
    width = max(len(name) for name in scores)
    trials = next(iter(scores.values())).trials
    head = f"{'policy':<{width}}  success  95 % interval   ({trials} held-out episodes)"
    rows = [f"{name:<{width}}  {score}" for name, score in scores.items()]
    return "\n".join([head, "-" * len(head), *rows])


def artefacts(paths: dict[str, Path]) -> str:
    """Lines of what was written and where; what does not exist is left out."""
    return "\n".join(f"{name:<16}{path}" for name, path in paths.items() if path.exists())
