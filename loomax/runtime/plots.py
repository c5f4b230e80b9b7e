"""Curves of a run's metrics as a PNG."""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

# Title, and the metrics that share the panel.
Panel = tuple[str, tuple[str, ...]]


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


def draw_curves(
    metrics: Path, target: Path, panels: Sequence[Panel], counted: str, marked: str
) -> Path:
    """Draws four panels from `metrics` into `target`.

    Args:
        counted: what steps are: "iteration".
        marked: metrics whose names begin so are few, and get a dot each.
    """
    curves = read_metrics(metrics)
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), constrained_layout=True)
    for axis, (title, names) in zip(axes.flat, panels, strict=True):
        for name in names:
            if name in curves:
                dot = "o" if name.startswith(marked) else None
                axis.plot(*curves[name], label=name, marker=dot)
        axis.set_title(title)
        axis.set_xlabel(counted)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    return save_figure(figure, target)


def save_figure(figure: Figure, target: Path) -> Path:
    """Writes a PNG, whole or not at all, and closes the figure."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.png")
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    partial.replace(target)
    return target
