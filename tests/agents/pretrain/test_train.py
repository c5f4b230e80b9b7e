"""Whole runs: what they leave, and that a killed one ends where it would have."""

import json
import math
import os
import shutil
import signal
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

from loomax.agents.pretrain import train as job
from loomax.agents.pretrain.presets import CONFIGS
from loomax.agents.pretrain.report import read_config
from loomax.agents.pretrain.train import Speed, Trainer, due, train
from loomax.cli import main
from loomax.models.lm import safetensors
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.mesh import MeshConfig, make_mesh
from loomax.runtime.metrics import MetricsWriter, read
from loomax.runtime.owner import Busy, own


class Killed(BaseException):
    """Nothing catches it."""


class Deadly(MetricsWriter):
    """Dies in the third step."""

    def write(self, step, metrics, prefix=""):
        super().write(step, metrics, prefix)
        if (prefix, step) == ("train/", 3):
            self.close()
            raise Killed


def rows_of(run_dir):
    """Metrics without what a clock has to do with."""
    return [
        {name: x for name, x in row.items() if name not in ("time", "train/tokens_per_s")}
        for row in read(run_dir)
    ]


def state_of(run_dir, config):
    """The newest checkpoint: step, leaves, notes."""
    trainer = Trainer(config, run_dir, job.load_documents(config.data))
    step, state, notes = trainer.checkpoints.restore(trainer.abstract()[0])
    return step, jax.tree.map(np.asarray, state), notes | {"wall_s": 0}


def test_a_run_leaves_everything(finished, debug):
    run_dir, result = finished
    held = json.loads((run_dir / "result.json").read_text())
    assert held["perplexity"] == pytest.approx(math.exp(held["loss"]))
    assert (held["steps"], held["config"], held["seed"]) == (4, "lm-debug", 0)
    assert held["tokens"] == 3 * 8 * 16 + 8 * 32 == result.tokens
    assert 0 < held["loss"] < math.log(259) + 1 and held["train_loss"] > 0
    assert read_config(run_dir) == debug
    rows = read(run_dir)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "heldout/perplexity" in row] == [2, 4]
    assert rows[-1]["heldout/loss"] == held["loss"]
    assert rows[1]["train/tokens_per_s"] > 0 and "train/tokens_per_s" not in rows[0]
    assert (run_dir / "plots" / "learning_curves.png").stat().st_size > 10_000
    assert Checkpointer(run_dir / "checkpoints").steps() == [2, 4]


def test_the_parameters_are_exported_with_the_last_stages_model(finished, debug):
    run_dir, result = finished
    path = run_dir / "model.safetensors"
    config = safetensors.read_config(path)
    assert config == replace(debug.model, rope=replace(debug.model.rope, theta=40_000.0))
    params = safetensors.load(path, config)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == result.parameters
    _, state, _ = state_of(run_dir, debug)
    jax.tree.map(np.testing.assert_array_equal, params, state.params)


def test_a_killed_run_ends_where_it_would_have(finished, debug, tmp_path, monkeypatch):
    run_dir, _ = finished
    killed = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(job, "MetricsWriter", Deadly)
        train(debug, killed)
    assert Checkpointer(killed / "checkpoints").steps() == [2]
    assert read(killed)[-1]["step"] == 3 and not (killed / "result.json").exists()
    result = train(debug, killed)
    (step, state, notes), (twin_step, twin, twin_notes) = (
        state_of(path, debug) for path in (killed, run_dir)
    )
    assert step == twin_step == 4 and notes == twin_notes
    jax.tree.map(np.testing.assert_array_equal, state, twin)
    assert rows_of(killed) == rows_of(run_dir)
    files = [path / "model.safetensors" for path in (killed, run_dir)]
    assert files[0].read_bytes() == files[1].read_bytes()
    held = json.loads((run_dir / "result.json").read_text())
    assert held == json.loads(json.dumps(vars(result))) | {"wall_s": held["wall_s"]}


def test_a_finished_run_is_reported_again_from_the_command_line(
    finished, debug, monkeypatch, capsys
):
    run_dir, _ = finished
    monkeypatch.setitem(CONFIGS, debug.name, debug)
    before = rows_of(run_dir)
    main.main(f"train lm --resume --runs {run_dir.parent} --name {run_dir.name}".split())
    out = capsys.readouterr().out
    assert out.startswith("going on after step 4\n") and "held-out perplexity" in out
    for name in (
        "result.json",
        "metrics.jsonl",
        "learning_curves.png",
        "checkpoints",
        "safetensors",
    ):
        assert name in out
    assert rows_of(run_dir) == before


def test_a_run_begins_with_given_parameters(finished, debug, tmp_path):
    run_dir, _ = finished
    config = replace(debug, init=str(run_dir / "model.safetensors"))
    trainer = Trainer(config, tmp_path, job.load_documents(config.data))
    state, notes = trainer.begin()
    assert state.step == 0 and notes["tokens"] == 0
    _, old, _ = state_of(run_dir, debug)
    jax.tree.map(np.testing.assert_array_equal, state.params, old.params)
    wider = replace(config, model=replace(config.model, width=32))
    with pytest.raises(ValueError, match=r"embedding: expected \[259, 32\], got \[259, 16\]"):
        Trainer(wider, tmp_path, trainer.documents).begin()


def test_other_documents_are_refused(finished, debug, folder, tmp_path):
    run_dir, _ = finished
    (tmp_path / "a.txt").write_text("another text")
    (tmp_path / "b.txt").write_text("and one more")
    data = replace(debug.data, path=str(tmp_path), held_out=0.0)
    with pytest.raises(ValueError, match="documents of .* have changed since step 4"):
        train(replace(debug, data=data), run_dir)
    assert read_config(run_dir) == debug


def test_another_width_is_refused(finished, debug):
    run_dir, _ = finished
    with pytest.raises(ValueError, match="is of another model or configuration"):
        train(replace(debug, model=replace(debug.model, width=32)), run_dir)
    assert read_config(run_dir) == debug


def test_bad_documents_leave_no_run_behind(debug, tmp_path):
    data = replace(debug.data, path=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="does not exist"):
        train(replace(debug, data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_batches_that_do_not_divide_are_refused_first(debug, tmp_path):
    mesh = make_mesh(MeshConfig(), jax.devices()[:3])
    with pytest.raises(ValueError, match="stages.0.batch is 8; it must be a positive multiple of"):
        train(debug, tmp_path / "run", mesh)


def test_small_helpers():
    assert [due(step, 3) for step in range(1, 7)] == [False, False, True] * 2
    assert not due(4, 0)
    assert Speed().metrics() == {}


def test_a_refused_resume_leaves_the_run_as_it_was(finished, debug, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "step_00000004")
    before = files_of(run)
    longer = replace(debug.stages[1], length=16), replace(debug.stages[0], length=8)
    for config, message in (
        (replace(debug, seed=7), "was begun with seed 0, not 7"),
        (replace(debug, stages=(longer[1], debug.stages[1])), "go on with the same lengths"),
        (replace(debug, model=replace(debug.model, width=2 * debug.model.width)), "another model"),
        (replace(debug, data=replace(debug.data, held_out=0.5)), "documents of .* have changed"),
    ):
        with pytest.raises(ValueError, match=message):
            train(config, run)
        assert files_of(run) == before
    assert train(debug, run).steps == 4


def files_of(run):
    """What a run holds, but for the file of its owner."""
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if path.name != ".owner"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_notice_saves_and_stops(debug, tmp_path, monkeypatch, capsys, number, code):
    class Told(MetricsWriter):
        def write(self, step, metrics, prefix=""):
            super().write(step, metrics, prefix)
            if (prefix, step) == ("train/", 1):
                os.kill(os.getpid(), number)

    monkeypatch.setattr(job, "MetricsWriter", Told)
    with pytest.raises(SystemExit) as stop:
        train(debug, tmp_path / "run")
    assert stop.value.code == code
    how = {130: "Ctrl-C", 143: "SIGTERM"}[code]
    assert f"stopped by {how} after step 1, which is saved: --resume" in capsys.readouterr().out
    assert Checkpointer(tmp_path / "run" / "checkpoints").steps() == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait(debug, tmp_path, monkeypatch):
    class Told(MetricsWriter):
        def write(self, step, metrics, prefix=""):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(job, "MetricsWriter", Told)
    with pytest.raises(KeyboardInterrupt):
        train(debug, tmp_path / "run")
    assert Checkpointer(tmp_path / "run" / "checkpoints").steps() == []


def test_a_run_in_use_is_refused_and_left_alone(finished, debug, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    before, found = files_of(run), []
    holding, done = threading.Event(), threading.Event()

    def hold():
        with own(run):
            holding.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holding.wait(60)
        with pytest.raises(Busy, match=f"in use by process {os.getpid()}: .*--wait"):
            found.append(train(debug, run))
    finally:
        done.set()
        thread.join()
    assert files_of(run) == before and found == []
