"""A whole run on the real agent: what it leaves, and that it ends where it would have if cut."""

import json
import shutil

import jax
import numpy as np
import pytest

from loomax.agents.search.train import train as job
from loomax.agents.search.train.brain import is_searcher, load_searcher, read_config
from loomax.runtime.metrics import read


@pytest.fixture(scope="module")
def played(reinforced, mesh, tmp_path_factory):
    """Folder and result."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run_dir.mkdir()
    return run_dir, job.train(reinforced, run_dir, mesh)


def test_a_run_leaves_everything(played, reinforced):
    run_dir, result = played
    held = json.loads((run_dir / "result.json").read_text())
    assert (held["steps"], held["config"]) == (3, "searcher-grpo-debug")
    rows = [row for row in read(run_dir) if "train/reward" in row]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert held["train_reward"] == rows[-1]["train/reward"]
    written = sum(row["train/written_tokens"] for row in rows) * reinforced.rollouts
    assert result.tokens == pytest.approx(written)
    assert set(held["exact_match"]) == {"chains_exact_match", "mixture_exact_match"}
    assert (run_dir / "plots" / "learning_curves.png").stat().st_size > 10_000
    assert is_searcher(run_dir) and read_config(run_dir) == reinforced
    assert load_searcher(run_dir).sizes == reinforced.world.sizes


def test_a_cut_run_ends_where_it_would_have(played, reinforced, mesh, tmp_path, monkeypatch):
    run_dir, _ = played
    again = tmp_path / "again"
    shutil.copytree(run_dir, again)
    shutil.rmtree(again / "checkpoints" / "step_00000003")
    (again / "model.safetensors").unlink()
    monkeypatch.setattr(job, "examine", lambda *_: {})
    job.train(reinforced, again, mesh)
    params = [load_searcher(folder).params for folder in (run_dir, again)]
    jax.tree.map(np.testing.assert_array_equal, *params)
    for name in ("reward", "written_tokens", "grad_norm"):
        one, other = ([row.get(f"train/{name}") for row in read(f)][:3] for f in (run_dir, again))
        assert one == other


def test_several_processes_do_not_play(reinforced, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="2 processes: the agents of a step play in one"):
        job.trainer_of(reinforced, tmp_path, None)
