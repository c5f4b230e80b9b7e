"""What a supernet's training leaves behind: configuration, result, learning curves."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from loomax.nas.train.config import SupernetTrainConfig
from loomax.nas.train.presets import CONFIGS
from loomax.runtime.config import merge
from loomax.runtime.files import atomic_write
from loomax.runtime.plots import draw_curves

PANELS = (
    ("mean loss of a step's nets", ("train/loss", "train/nats")),
    (
        "accuracy on validation images",
        ("validation/smallest", "validation/median", "validation/largest"),
    ),
    ("learning rate", ("train/lr",)),
    ("norm of the gradients", ("train/grad_norm",)),
)


@dataclass(frozen=True)
class Result:
    """Outcome of a run; written as result.json.

    Args:
        validation, test: accuracy of the smallest, the median and the largest net.
        parameters: of the largest net.
        compilations: of the training step.
    """

    validation: dict[str, float]
    test: dict[str, float]
    loss: float | None
    steps: int
    parameters: int
    compilations: int
    wall_s: float
    config: str
    seed: int


def write_config(path: Path, config: SupernetTrainConfig) -> None:
    """Writes the configuration as JSON, from which `read_config` makes it again."""
    atomic_write(path, json.dumps(asdict(config), indent=2) + "\n")


def read_config(run_dir: Path) -> SupernetTrainConfig:
    """The configuration in `run_dir/config.json`.

    Raises:
        ValueError: there is none, it is of another kind of run, or of another version.
    """
    path = run_dir / "config.json"
    if not path.is_file():
        raise ValueError(f"{run_dir} holds no run: give the folder of one (loomax nas train)")
    held = json.loads(path.read_text(encoding="utf-8"))
    if "space" not in held:
        raise ValueError(f"{run_dir} is no supernet's run: give one of loomax nas train")
    return merge(CONFIGS.get(held["name"], next(iter(CONFIGS.values()))), held)


def write_result(path: Path, result: Result) -> None:
    """Writes result.json atomically."""
    atomic_write(path, json.dumps(asdict(result), indent=2) + "\n")


def learning_curves(metrics: Path, target: Path) -> Path:
    """Draws the panels from `metrics` into `target`."""
    return draw_curves(metrics, target, PANELS, "step", "validation/")
