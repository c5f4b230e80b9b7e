"""Scores the language model of a finished or interrupted run, long after it was trained."""

from dataclasses import replace
from pathlib import Path

import jax

from loomax.agents.pretrain.config import PretrainConfig, StageConfig
from loomax.agents.pretrain.documents import load_documents
from loomax.agents.pretrain.report import read_config
from loomax.agents.pretrain.score import Score, Scorer
from loomax.agents.pretrain.train import Trainer
from loomax.runtime.distributed import say


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
        data: a file or folder of which all documents are scored; "" scores the documents that
            the run held out.
        files: which files of that folder.
        rows: rows at most; 0 takes all.

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
    scorer = Scorer(trainer.learner, stage_at(config, step), documents, numbers=numbers, most=rows)
    score = scorer(state.params)
    whose = data or f"held-out documents of {run_dir.name}"
    say(f"{whose}, after {step} steps: {score}")
    return score
