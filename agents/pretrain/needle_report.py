"""What `loomax eval needle` leaves behind: every cell as JSON, and a heat map."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from loomax.agents.pretrain.needle_grid import Cell, GridConfig
from loomax.runtime.files import atomic_write
from loomax.runtime.plots import plt, save_figure


def by_length(cells: Sequence[Cell]) -> dict[int, float]:
    """Share of all prompts of each length that were answered right."""
    lengths = sorted({cell.length for cell in cells})
    groups = {length: [cell for cell in cells if cell.length == length] for length in lengths}
    return {
        length: sum(cell.found for cell in group) / sum(cell.trials for cell in group)
        for length, group in groups.items()
    }


def write_cells(path: Path, config: GridConfig, cells: Sequence[Cell], about: dict) -> None:
    """Writes the question, every cell and the share found at each length."""
    held: dict[str, Any] = about | {"grid": asdict(config), "found": by_length(cells)}
    held["cells"] = [asdict(cell) for cell in cells]
    atomic_write(path, json.dumps(held, indent=2) + "\n")


def draw_heat_map(target: Path, cells: Sequence[Cell], title: str, trained: int) -> Path:
    """Lengths from left to right, depths from top to bottom, the share that was found as colour.

    Args:
        trained: the longest rows of the training, which get a line behind them.
    """
    lengths = sorted({cell.length for cell in cells})
    depths = sorted({cell.depth for cell in cells})
    share = np.full((len(depths), len(lengths)), np.nan)
    for cell in cells:
        share[depths.index(cell.depth), lengths.index(cell.length)] = cell.found / cell.trials
    size = (2.5 + 0.9 * len(lengths), 2.0 + 0.35 * len(depths))
    figure, axis = plt.subplots(figsize=size, constrained_layout=True)
    image = axis.imshow(share, vmin=0.0, vmax=1.0, cmap="RdYlGn", aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        axis.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8)
    axis.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axis.set_yticks(range(len(depths)), [f"{100 * depth:.0f} %" for depth in depths])
    axis.set_xlabel("tokens of the prompt")
    axis.set_ylabel("depth of the needle")
    seen = sum(length <= trained for length in lengths)
    if 0 < seen < len(lengths):
        axis.axvline(seen - 0.5, color="black", linewidth=2)
    axis.set_title(title, fontsize=10)
    figure.colorbar(image, label="share found")
    return save_figure(figure, target)
