"""Scores the language model of a finished or interrupted run, long after it was trained."""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from loomax.agents.pretrain.config import PretrainConfig, StageConfig
from loomax.agents.pretrain.documents import Documents, load_documents
from loomax.agents.pretrain.learner import Learner, model_of
from loomax.agents.pretrain.needle_grid import ANSWER, Cell, GridConfig, Reader, score_grid
from loomax.agents.pretrain.needle_report import by_length, draw_heat_map, write_cells
from loomax.agents.pretrain.needles import Facts
from loomax.agents.pretrain.report import read_config
from loomax.agents.pretrain.score import Score, Scorer
from loomax.agents.pretrain.tokens import encoder
from loomax.agents.pretrain.train import Trainer
from loomax.agents.rl.report import artefacts
from loomax.models.lm.config import Scaling
from loomax.runtime.distributed import leads, say

# A first look goes to eight times the longest training rows.
REACH = (1, 2, 4, 8)


@dataclass(frozen=True)
class Trained:
    """The newest parameters of a run, with the documents to score them on.

    Args:
        numbers: of these documents.
        whose: says what they are.
    """

    learner: Learner
    documents: Documents
    numbers: tuple[int, ...]
    whose: str
    stage: StageConfig
    step: int
    params: PyTree


def open_run(run_dir: Path, data: str = "", files: str = "*") -> Trained:
    """Loads the newest checkpoint of a run.

    Args:
        data: a file or folder, all documents of which are taken; "" takes those that the run held
            out.
        files: which files of that folder.

    Raises:
        ValueError: the run has no checkpoint or held nothing out, or documents cannot be read.
    """
    config = read_config(run_dir)
    if data:
        chosen = replace(config.data, path=data, files=files, held_out=0.0)
        config = replace(config, data=chosen)
    config.validate(jax.device_count())
    documents = load_documents(config.data)
    numbers = documents.train if data else documents.held_out
    if not numbers:
        raise ValueError(f"{run_dir} held nothing out (data.held_out is 0): give --data PATH")
    trainer = Trainer(config, run_dir, documents)
    kept = trainer.checkpoints.restore(trainer.abstract()[0])
    if kept is None:
        raise ValueError(f"{run_dir} has no checkpoint yet; train it first")
    step, state, _ = kept
    whose = data or f"held-out documents of {run_dir.name}"
    stage = stage_at(config, step)
    return Trained(trainer.learner, documents, numbers, whose, stage, step, state.params)


def stage_at(config: PretrainConfig, step: int) -> StageConfig:
    """The stage that a step belongs to, steps counted from 1."""
    last = 0
    for stage in config.stages:
        last += stage.steps
        if step <= last:
            return stage
    return config.stages[-1]


def evaluate_run(run_dir: Path, data: str = "", files: str = "*", rows: int = 0) -> Score:
    """Prints and returns the perplexity of a run's newest parameters.

    Args:
        data, files: see `open_run`.
        rows: rows at most; 0 takes all.

    Raises:
        ValueError: see `open_run`.
    """
    run = open_run(run_dir, data, files)
    scorer = Scorer(run.learner, run.stage, run.documents, numbers=run.numbers, most=rows)
    score = scorer(run.params)
    say(f"{run.whose}, after {run.step} steps: {score}")
    return score


def evaluate_needles(
    run_dir: Path,
    grid: GridConfig,
    data: str = "",
    files: str = "*",
    *,
    scaling: Scaling = "none",
    factor: float = 1.0,
) -> list[Cell]:
    """Retrieval at every length and depth; writes `RUN/needle/*.json` and a heat map.

    Args:
        grid: what is asked; without lengths, once to eight times the longest training rows.
        data, files: the hay; see `open_run`.
        scaling, factor: how rotary positions are stretched beyond the training's, see `RopeConfig`.

    Raises:
        ValueError: see `open_run`; the needles do not fit the shortest prompt.
    """
    run = open_run(run_dir, data, files)
    trained = max(stage.length for stage in run.learner.config.stages)
    grid = grid if grid.lengths else replace(grid, lengths=tuple(r * trained for r in REACH))
    model = model_of(run.learner.config, run.stage)
    if scaling != "none":
        changed = {"scaling": scaling, "factor": factor, "original": trained, "ramp": "index"}
        rope = replace(model.rope, **changed)
        model = replace(model, rope=rope)
    encode = encoder(run.learner.config.data.tokenizer)
    hay = np.concatenate([encode(run.documents[number]) for number in run.numbers])
    block = min(grid.block, max(grid.lengths))
    # A block is written whole, its padding too.
    slots = -(-max(grid.lengths) // block) * block + ANSWER
    reader = Reader(model, run.learner.mesh, block=block, slots=slots)
    cells = score_grid(grid, reader, run.params, Facts(encode), hay, enabled=leads())
    if leads():
        write_needles(run_dir, grid, cells, run, trained)
    return cells


def write_needles(
    run_dir: Path, grid: GridConfig, cells: list[Cell], run: Trained, trained: int
) -> None:
    """Says what was found and where it is written."""
    for length, share in by_length(cells).items():
        say(f"{length:9,} tokens ({length / trained:.3g} x training): {100 * share:5.1f} % found")
    name = f"needles-{grid.needles}"
    paths = {
        "cells": run_dir / "needle" / f"{name}.json",
        "heat map": run_dir / "needle" / f"{name}.png",
    }
    about = {"run": run_dir.name, "step": run.step, "trained": trained, "hay": run.whose}
    write_cells(paths["cells"], grid, cells, about)
    title = f"{run_dir.name}: 1 of {grid.needles} needle{'s' * (grid.needles > 1)}"
    draw_heat_map(paths["heat map"], cells, f"{title}, {grid.trials} prompts a cell", trained)
    say("\n" + artefacts(paths))
