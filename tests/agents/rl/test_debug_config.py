"""The whole main job at its smallest, from the command line: all stages, all artefacts."""

import json
import os
import subprocess
import sys

import pytest

from loomax.agents.rl.presets import CONFIGS
from loomax.agents.rl.scoring import read_config
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.metrics import read

# A machine that is busy takes minutes to compile the job.
pytestmark = pytest.mark.timeout(900)
RESULT = {"success_before", "success_after", "ci95_before", "ci95_after", "episodes", "wall_s"}
RESULT |= {"env_steps", "config", "seed"}


@pytest.fixture(scope="module")
def debug(tmp_path_factory):
    """The run's folder, and what was printed."""
    runs = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "loomax", "train", "--config", "debug", "--runs", str(runs)]
    # Without a display the video is made by our own renderer. Compiled as for users, so that the
    # same command then starts at once.
    there = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    there["XLA_FLAGS"] = ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=880, env=there)
    assert done.returncode == 0, done.stderr[-4000:]
    return runs / "debug", done.stdout


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_result_has_every_number(debug):
    run_dir, _ = debug
    held = json.loads((run_dir / "result.json").read_text())
    assert held.keys() >= RESULT
    config = CONFIGS["debug"]
    assert (held["config"], held["seed"]) == ("debug", config.seed)
    assert held["episodes"] == config.eval.episodes
    assert held["env_steps"] > 0 and held["wall_s"] > 0
    for name in ("before", "after"):
        low, high = held[f"ci95_{name}"]
        assert 0 <= low <= held[f"success_{name}"] <= high <= 1


@pytest.mark.slow
@pytest.mark.multiprocess
def test_metrics_of_every_stage_are_kept(debug):
    run_dir, _ = debug
    rows = read(run_dir)
    config = CONFIGS["debug"]
    for prefix, count in (
        ("ground/loss", config.ground.steps // config.ground.log_every),
        ("sft/loss", config.sft.steps // config.sft.log_every),
        ("rl/loss", config.iterations),
        ("eval/success", config.iterations // config.eval.every),
    ):
        assert sum(prefix in row for row in rows) == count, prefix


@pytest.mark.slow
@pytest.mark.multiprocess
def test_every_artefact_is_there_and_named(debug):
    run_dir, printed = debug
    config = CONFIGS["debug"]
    assert read_config(run_dir) == config
    assert (run_dir / "plots" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    (video,) = (run_dir / "videos").iterdir()
    assert video.stat().st_size > 1000
    assert Checkpointer(run_dir / "checkpoints" / "sft").latest_step() == 2
    assert Checkpointer(run_dir / "checkpoints" / "rl").latest_step() == config.iterations
    for path in ("result.json", "metrics.jsonl", "plots/learning_curves.png", "checkpoints"):
        assert str(run_dir / path) in printed
    assert str(video) in printed
    for row in ("before RL", "after RL", "after RL, shuffled instructions", "black images"):
        assert row in printed
