"""Learning curves as a PNG."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

PANELS = (
    ("success", ("rl/success", "eval/success")),
    ("reward per episode", ("rl/reward",)),
    ("KL divergence and clip fraction", ("rl/approx_kl", "rl/clip_fraction")),
    ("explained variance", ("rl/explained_variance",)),
)


def read_metrics(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Metric name to (steps, values) from a JSON-lines file; a torn last line is skipped."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        for name, value in row.items():
            if name in ("step", "time") or not isinstance(value, int | float):
                continue
            steps, values = curves.setdefault(name, ([], []))
            steps.append(row["step"])
            values.append(value)
    return curves


def learning_curves(metrics: Path, target: Path) -> Path:
    """Draws the RL panels from `metrics` into `target`."""
    curves = read_metrics(metrics)
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), constrained_layout=True)
    for axis, (title, names) in zip(axes.flat, PANELS, strict=True):
        for name in names:
            if name in curves:
                axis.plot(*curves[name], label=name, marker="o" if "eval" in name else None)
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.png")
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    partial.replace(target)
    return target
