"""A whole run on the point mass: what it leaves, and that a killed one ends where it would have."""

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from loomax.agents.rl.presets import CONFIGS
from loomax.agents.rl.report import Score
from loomax.agents.rl.train import HELD_OUT, MONITOR, Trainer, train
from loomax.cli import main
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.metrics import MetricsWriter, read

RESULT = {"success_before", "success_after", "ci95_before", "ci95_after", "episodes", "wall_s"}
RESULT |= {"env_steps", "config", "seed"}

# A run of eight devices that dies, by the signal that nothing can catch, in its third iteration.
KILLED = """
import os, signal, sys
from pathlib import Path
from loomax.runtime.compile import setup_cpu
setup_cpu(devices=8)
from loomax.agents.rl import train as job
from loomax.agents.rl.scoring import read_config

class Deadly(job.MetricsWriter):
    def write(self, step, metrics, prefix=""):
        super().write(step, metrics, prefix)
        if (prefix, step) == ("rl/", 3):
            os.kill(os.getpid(), signal.SIGKILL)

job.MetricsWriter = Deadly
run_dir = Path(sys.argv[1])
job.train(read_config(run_dir), run_dir)
"""


def last_state(run_dir, config):
    """The newest RL checkpoint: step, leaves by path, notes."""
    parts = Trainer(config, run_dir).parts
    params = jax.eval_shape(lambda: parts.init_params(key=jax.random.key(0)))
    abstract = jax.eval_shape(parts.learner.init, *params, key=jax.random.key(0))
    step, state, notes = Checkpointer(run_dir / "checkpoints" / "rl").restore(abstract)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return step, {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, notes


def same_end(run_dir, other, config):
    """Whether two runs ended in the same checkpoint, metrics and result, bit for bit."""
    (step, leaves, notes), (twin_step, twins, twin_notes) = (
        last_state(path, config) for path in (run_dir, other)
    )
    assert step == twin_step == 4
    assert leaves.keys() == twins.keys()
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, twins[path], err_msg=path)
    assert notes | {"wall_s": 0} == twin_notes | {"wall_s": 0}
    rows, twin_rows = ([row | {"time": 0} for row in read(path)] for path in (run_dir, other))
    assert rows == twin_rows
    results = [json.loads((path / "result.json").read_text()) for path in (run_dir, other)]
    assert results[0] | {"wall_s": 0} == results[1] | {"wall_s": 0}


def test_a_run_leaves_everything(finished):
    run_dir, config, result = finished
    held = json.loads((run_dir / "result.json").read_text())
    assert held.keys() >= RESULT
    assert (held["config"], held["episodes"], held["seed"]) == ("point-mass", 16, 0)
    assert held["env_steps"] == result.env_steps > 256 and held["iterations"] == 4
    low, high = held["ci95_after"]
    assert low <= held["success_after"] <= high
    assert json.loads((run_dir / "config.json").read_text()) == json.loads(
        json.dumps(dataclasses.asdict(config))
    )
    rows = read(run_dir)
    assert [row["step"] for row in rows if "rl/loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "eval/success" in row] == [2, 4]
    assert sum(row.get("rl/env_steps", 0) for row in rows) == result.env_steps
    assert (run_dir / "plots" / "learning_curves.png").stat().st_size > 10_000
    assert list((run_dir / "tensorboard").iterdir())
    names = sorted(path.name for path in (run_dir / "checkpoints" / "rl").iterdir())
    assert names == ["step_00000002", "step_00000004"]
    assert not (run_dir / "videos").exists()


def test_held_out_and_monitoring_seeds_differ(finished):
    run_dir, config, _ = finished
    trainer = Trainer(config, run_dir)
    params = trainer.parts.init_params(key=jax.random.key(0))
    held_out, again, monitor = (
        np.asarray(trainer.evaluate(params, seeds).steps) for seeds in (HELD_OUT, HELD_OUT, MONITOR)
    )
    np.testing.assert_array_equal(held_out, again)
    assert not np.array_equal(held_out, monitor)


@pytest.mark.multiprocess
def test_a_killed_run_ends_where_it_would_have(finished, tmp_path):
    run_dir, config, _ = finished
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copy(run_dir / "config.json", killed)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed)], capture_output=True, text=True, timeout=500
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert Checkpointer(killed / "checkpoints" / "rl").steps() == [2]
    assert read(killed)[-1]["step"] == 3 and not (killed / "result.json").exists()
    before = last_state(killed, config)[2]["wall_s"]
    result = train(config, killed)
    same_end(killed, run_dir, config)
    assert result.wall_s > before > 0


def test_a_truncated_checkpoint_is_refused_and_the_one_before_it_used(finished, tmp_path, caplog):
    run_dir, config, _ = finished
    torn = shutil.copytree(run_dir, tmp_path / "torn")
    newest = torn / "checkpoints" / "rl" / "step_00000004"
    largest = max(newest.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    largest.write_bytes(largest.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        train(config, torn)
    assert "step_00000004 is damaged and was refused" in caplog.text
    same_end(torn, run_dir, config)


def test_another_architecture_is_refused_in_one_line(finished, monkeypatch, capsys):
    run_dir, config, _ = finished
    monkeypatch.setitem(CONFIGS, config.name, config)
    before = (run_dir / "config.json").read_bytes()
    command = f"train --resume --runs {run_dir.parent} --name {run_dir.name} --policy.width 24"
    with pytest.raises(SystemExit) as stop:
        main.main(command.split())
    assert stop.value.code == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text]
    assert line.startswith(f"loomax train: checkpoint {run_dir}/checkpoints/sft/")
    assert "is of another model or configuration" in line
    assert "['enter']['kernel'].value: expected float32[9, 24], got float32[9, 16]" in line
    # What was refused must not stand beside what the other configuration made.
    assert (run_dir / "config.json").read_bytes() == before


def test_training_stops_after_two_good_scores_in_a_row(finished, monkeypatch, capsys):
    run_dir, config, _ = finished
    scored = dataclasses.replace(config.eval, stop_at=0.9, every=2)
    trainer = Trainer(dataclasses.replace(config, eval=scored), run_dir)
    successes = iter([9, 10, 5, 9, 9])
    monkeypatch.setattr(trainer, "score", lambda *_: Score(next(successes), 10))
    state = jax.eval_shape(
        trainer.parts.learner.init,
        *jax.eval_shape(lambda: trainer.parts.init_params(key=jax.random.key(0))),
        key=jax.random.key(0),
    )
    notes, streaks = {"streak": 0}, []
    for step in range(1, 11):
        trainer.monitor(step, state, notes, MetricsWriter(run_dir, enabled=False))
        streaks.append(notes["streak"])
    assert streaks == [0, 1, 1, 2, 2, 0, 0, 1, 1, 2]
    assert "iteration 10:  90.0 %" in capsys.readouterr().out


def files_of(run):
    """What a run holds, but for the file of its owner."""
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if path.name != ".owner"}


def test_a_refused_resume_leaves_the_run_as_it_was(finished, tmp_path):
    run_dir, config, _ = finished
    run = shutil.copytree(run_dir, tmp_path / "run")
    before = files_of(run)
    wider = dataclasses.replace(config.policy, width=2 * config.policy.width)
    rollout = dataclasses.replace(config.rl.rollout, envs=2 * config.rl.rollout.envs)
    more = dataclasses.replace(config.rl, rollout=rollout)
    for other, message in (
        (dataclasses.replace(config, seed=7), "was begun with seed 0, not 7"),
        (dataclasses.replace(config, policy=wider), "another model"),
        # The supervised stages fit, the state of the environments does not.
        (dataclasses.replace(config, rl=more), "another model"),
    ):
        with pytest.raises(ValueError, match=message):
            train(other, run)
        assert files_of(run) == before
    train(config, run)
    same_end(run, run_dir, config)


def test_ctrl_c_saves_the_iteration(finished, tmp_path, monkeypatch, capsys):
    run_dir, config, _ = finished

    class Told(MetricsWriter):
        def write(self, step, metrics, prefix=""):
            super().write(step, metrics, prefix)
            if (prefix, step) == ("rl/", 1):
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr("loomax.agents.rl.train.MetricsWriter", Told)
        train(config, tmp_path / "run")
    assert stop.value.code == 130
    assert "stopped by Ctrl-C after iteration 1, which is saved" in capsys.readouterr().out
    assert Checkpointer(tmp_path / "run" / "checkpoints" / "rl").steps() == [1]
