"""A whole run: what it leaves, and that it ends where it would have if it is cut."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from loomax.agents.search.train import train as job
from loomax.agents.search.train.brain import is_searcher, load_searcher, read_config
from loomax.models.lm import safetensors
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.metrics import read


def test_a_run_leaves_everything(finished, debug):
    run_dir, result = finished
    held = json.loads((run_dir / "result.json").read_text())
    assert held["tokens"] == 3 * 8 * 64 + 3 * 8 * 288 == result.tokens
    assert (held["steps"], held["config"], held["seed"]) == (6, "searcher-debug", 0)
    assert held["marks"]["chains"]["questions"] == 2 == held["marks"]["mixture"]["questions"]
    assert held["exact_match"] == {"chains_exact_match": 0.0, "mixture_exact_match": 0.0}
    rows = read(run_dir)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["heldout/mixture_exact_match"] == 0
    assert (run_dir / "plots" / "learning_curves.png").stat().st_size > 10_000
    assert is_searcher(run_dir) and read_config(run_dir) == debug


def test_a_cut_run_ends_where_it_would_have(finished, debug, mesh, tmp_path, monkeypatch):
    run_dir, _ = finished
    again = tmp_path / "again"
    shutil.copytree(run_dir, again)
    shutil.rmtree(again / "checkpoints" / "step_00000006")
    (again / "model.safetensors").unlink()
    # It has to draw its data anew from the middle of the second lesson.
    monkeypatch.setattr(job, "examine", lambda *_: {})
    job.train(debug, again, mesh)
    params = [load_searcher(folder).params for folder in (run_dir, again)]
    jax.tree.map(np.testing.assert_array_equal, *params)
    losses = [[row.get("train/loss") for row in read(folder)][:6] for folder in (run_dir, again)]
    assert losses[0] == losses[1]


def test_parameters_come_from_the_file_or_the_checkpoint(finished, tmp_path):
    run_dir, _ = finished
    whole = load_searcher(run_dir)
    assert (whole.sizes, whole.model.vocab) == (10, 357)
    cut = tmp_path / "cut"
    shutil.copytree(run_dir, cut)
    (cut / "model.safetensors").unlink()
    held = load_searcher(cut)
    assert (held.sizes, held.model) == (whole.sizes, whole.model)
    jax.tree.map(np.testing.assert_array_equal, held.params, whole.params)


def test_a_run_without_parameters_is_refused(finished, tmp_path):
    shutil.copy(finished[0] / "config.json", tmp_path)
    with pytest.raises(ValueError, match="has no checkpoint yet; train it first"):
        load_searcher(tmp_path)
    assert Checkpointer(tmp_path / "checkpoints").steps() == []


def test_models_of_other_words_are_refused(finished, tmp_path):
    searcher = load_searcher(finished[0])
    model = replace(searcher.model, vocab=300)
    params = searcher.params | {"embedding": searcher.params["embedding"][:300]}
    safetensors.save(tmp_path / "other.safetensors", model, params)
    with pytest.raises(ValueError, match="a model of 300 words is no searcher"):
        load_searcher(tmp_path / "other.safetensors")


def test_runs_of_other_kinds_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"name": "x", "stages": []}')
    assert not is_searcher(tmp_path)
    with pytest.raises(ValueError, match="is no run of `loomax train search`"):
        read_config(tmp_path)


def test_a_refused_resume_leaves_the_run_as_it_was(finished, debug, mesh, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    world = replace(debug.world, seed=debug.world.seed + 1)
    for config, message in (
        (replace(debug, seed=7), "was begun with seed 0, not 7"),
        (replace(debug, world=world), "have changed since step 6"),
    ):
        with pytest.raises(ValueError, match=message):
            job.train(config, run, mesh)
        now = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        assert {path: now[path] for path in before if path.name != ".owner"} == {
            path: content for path, content in before.items() if path.name != ".owner"
        }


def test_an_ended_run_is_examined_again_without_a_second_row(finished, debug, mesh, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    job.train(debug, run, mesh)
    rows = [row for row in read(run) if "heldout/mixture_exact_match" in row]
    assert len(rows) == 1 and len(read(run)) == len(read(finished[0]))
