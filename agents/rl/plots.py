"""Learning curves as a PNG."""

from pathlib import Path

from loomax.runtime.plots import draw_curves

PANELS = (
    ("success", ("rl/success", "eval/success")),
    ("reward per episode", ("rl/reward",)),
    ("KL divergence and clip fraction", ("rl/approx_kl", "rl/clip_fraction")),
    ("explained variance", ("rl/explained_variance",)),
)


def learning_curves(metrics: Path, target: Path) -> Path:
    """Draws the RL panels from `metrics` into `target`."""
    return draw_curves(metrics, target, PANELS, "iteration", "eval/")
