"""A run that teaches scores: that it ends where it would have if cut, and who asks for scores."""

import asyncio
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from loomax.agents.search.train import train as job
from loomax.agents.search.train.brain import QUESTION, load_searcher, read_config, searcher_brain
from loomax.agents.search.train.presets import CONFIGS
from loomax.runtime.metrics import read


@pytest.fixture(scope="module")
def scoring():
    return CONFIGS["searcher-score-debug"]


@pytest.fixture(scope="module")
def trained(scoring, mesh, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run_dir.mkdir()
    return run_dir, job.train(scoring, run_dir, mesh)


def test_a_run_learns_scores(trained, scoring):
    run_dir, result = trained
    assert (result.steps, result.config) == (3, "searcher-score-debug")
    assert read_config(run_dir) == scoring and load_searcher(run_dir).scores
    # A file alone does not tell.
    assert not load_searcher(run_dir / "model.safetensors").scores


def test_a_cut_run_ends_where_it_would_have(trained, scoring, mesh, tmp_path, monkeypatch):
    run_dir, _ = trained
    again = tmp_path / "again"
    shutil.copytree(run_dir, again)
    shutil.rmtree(again / "checkpoints" / "step_00000003")
    (again / "model.safetensors").unlink()
    assert load_searcher(again).scores
    monkeypatch.setattr(job, "examine", lambda *_: {})
    job.train(scoring, again, mesh)
    params = [load_searcher(folder).params for folder in (run_dir, again)]
    jax.tree.map(np.testing.assert_array_equal, *params)
    losses = [[row.get("train/loss") for row in read(folder)][:3] for folder in (run_dir, again)]
    assert losses[0] == losses[1]


def test_runs_from_before_there_were_scores_have_none(finished, tmp_path):
    held = json.loads((finished[0] / "config.json").read_text())
    for lesson in held["lessons"]:
        del lesson["scored"]
    (tmp_path / "config.json").write_text(json.dumps(held))
    shutil.copy(finished[0] / "model.safetensors", tmp_path)
    assert not load_searcher(tmp_path).scores


def test_only_a_model_that_has_learnt_it_is_asked(trained):
    searcher = load_searcher(trained[0])

    async def questions():
        found = []
        for scores in (True, False):
            async with searcher_brain(replace(searcher, scores=scores), slots=2) as brain:
                found.append((brain.codec.question, brain.codec.words))
        return found

    (asked, words), (nothing, _) = asyncio.run(questions())
    assert asked == tuple(words.ids(QUESTION)) and nothing == ()


def test_several_processes_do_not_draft(scoring, debug, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="2 processes: .* drafts are made in one; start it alone"):
        job.trainer_of(scoring, tmp_path, None)
