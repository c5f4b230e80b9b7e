"""What the training of a searcher leaves behind: configuration, result, learning curves."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from loomax.agents.rl.report import artefacts
from loomax.agents.search.train.exam import Marks
from loomax.agents.search.train.grpo.config import RunConfig
from loomax.runtime.files import atomic_write
from loomax.runtime.plots import draw_curves

PANELS = (
    ("loss, nats a token", ("train/loss",)),
    ("accuracy of what the model writes", ("train/accuracy",)),
    ("learning rate", ("train/lr",)),
    ("norm of the gradients", ("train/grad_norm",)),
)
# Where there are rewards.
REINFORCED = (
    ("reward, exact match", ("train/reward", "train/exact_match")),
    ("tokens that the model writes in a run", ("train/written_tokens",)),
    ("divergence from the policy that played, nats", ("train/approx_kl",)),
    ("norm of the gradients", ("train/grad_norm",)),
)


@dataclass(frozen=True)
class Result:
    """Outcome of a run; written as result.json.

    Args:
        exact_match: on unseen questions, of the chains and of the mixture.
        train_loss, train_reward: of the last step that was logged; only GRPO has a reward.
        tokens: that were trained on, or that the model wrote.
    """

    exact_match: dict[str, float]
    marks: dict[str, Marks]
    train_loss: float
    train_reward: float | None
    tokens: int
    steps: int
    parameters: int
    wall_s: float
    config: str
    seed: int


def exact_matches(marks: dict[str, Marks]) -> dict[str, float]:
    """The share of right answers in each part of the exam."""
    return {f"{name}_exact_match": given.exact_match for name, given in marks.items()}


def write_config(path: Path, config: RunConfig) -> None:
    """Writes the configuration as JSON."""
    atomic_write(path, json.dumps(asdict(config), indent=2) + "\n")


def report(run_dir: Path, result: Result) -> str:
    """Writes result and curves; returns what there is to say."""
    paths = {
        "result": run_dir / "result.json",
        "metrics": run_dir / "metrics.jsonl",
        "learning curves": run_dir / "plots" / "learning_curves.png",
        "checkpoint": run_dir / "checkpoints",
        "parameters": run_dir / "model.safetensors",
    }
    panels = PANELS if result.train_reward is None else REINFORCED
    draw_curves(paths["metrics"], paths["learning curves"], panels, "step", "heldout/")
    atomic_write(paths["result"], json.dumps(asdict(result), indent=2) + "\n")
    lines = [
        f"{name}: exact match {100 * given.exact_match:.1f} % of {given.questions} questions "
        f"({', '.join(f'{task} {100 * share:.1f}' for task, share in given.by_task.items())})"
        for name, given in result.marks.items()
    ]
    lines.append(f"{result.steps} steps, {result.tokens} tokens, {result.wall_s:.0f} s in all\n")
    return "\n".join([*lines, artefacts(paths)])
