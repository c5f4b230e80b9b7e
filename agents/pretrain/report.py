"""What a pretraining run leaves behind: configuration, result, learning curves."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from loomax.agents.pretrain.config import PretrainConfig
from loomax.agents.pretrain.presets import CONFIGS
from loomax.runtime.config import merge
from loomax.runtime.files import atomic_write
from loomax.runtime.plots import draw_curves

PANELS = (
    ("loss, nats a token", ("train/loss", "heldout/loss")),
    ("held-out perplexity", ("heldout/perplexity",)),
    ("learning rate", ("train/lr",)),
    ("norm of the gradients", ("train/grad_norm",)),
)


@dataclass(frozen=True)
class Result:
    """Outcome of a run; written as result.json. Scores are None where nothing was held out."""

    perplexity: float | None
    loss: float | None
    bits_per_byte: float | None
    accuracy: float | None
    held_out_tokens: float
    train_loss: float
    tokens: int
    steps: int
    parameters: int
    wall_s: float
    config: str
    seed: int


def write_config(path: Path, config: PretrainConfig) -> None:
    """Writes the configuration as JSON, from which `read_config` makes it again."""
    atomic_write(path, json.dumps(asdict(config), indent=2) + "\n")


def read_config(run_dir: Path) -> PretrainConfig:
    """The configuration in `run_dir/config.json`.

    Raises:
        ValueError: the run is not one of pretraining, or was made by another version.
    """
    held = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    if "stages" not in held:
        raise ValueError(f"{run_dir} is a policy's run and has no language model: loomax eval RUN")
    return merge(next(iter(CONFIGS.values())), held)


def write_result(path: Path, result: Result) -> None:
    """Writes result.json atomically."""
    atomic_write(path, json.dumps(asdict(result), indent=2) + "\n")


def learning_curves(metrics: Path, target: Path) -> Path:
    """Draws the panels from `metrics` into `target`."""
    return draw_curves(metrics, target, PANELS, "step", "heldout/")
