"""`loomax launch` for real: stopped, killed, and on other numbers of processes the same run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loomax.runtime.metrics import read

STEPS = 24
LAUNCH = [sys.executable, "-m", "loomax", "launch", "--grace", "20"]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """The command of a run by name, one row a device in each of eight streams."""
    root = tmp_path_factory.mktemp("launch")
    texts = root / "texts"
    texts.mkdir()
    for number in range(40):
        (texts / f"{number:02d}.txt").write_text(f"{number} green bottles, " * (1 + number % 5))
    settings = {
        "model.self_layers": 1,
        "model.cross_layers": 0,
        "model.mixer": "sliding_window",
        "data.path": texts,
        "data.files": "*",
        "data.streams": 8,
        "data.held_out": 0.2,
        "checkpoint_every": 5,
        "score.every": 0,
        "mesh.replica": -1,
        "mesh.fsdp": 2,
        "stages.0.steps": STEPS,
        "stages.1.steps": 1,
    }
    changed = [word for name, value in settings.items() for word in (f"--{name}", str(value))]

    def command(name):
        where = ["--name", name, "--runs", str(root), "--resume"]
        return ["train", "lm", "--config", "lm-debug", *where, *changed]

    return root, command


def launch(processes, command):
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [*LAUNCH, "--processes", str(processes), "--", *command],
        env=os.environ | quick,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def saved(run: Path) -> int:
    """The newest checkpoint, 0 before the first."""
    names = [path.name for path in (run / "checkpoints").glob("step_*[0-9]")]
    return max((int(name.removeprefix("step_")) for name in names), default=0)


def wait_for_step(run, step, process):
    """Waits until a checkpoint of `step` or later is there."""
    while saved(run) < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def children(process):
    """Process ids of what a launcher has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


def losses(run):
    return [row["train/loss"] for row in read(run) if "train/loss" in row]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_run_survives_a_stop_and_a_death_and_other_numbers_of_processes(training):
    root, command = training
    run = root / "moved"

    two = launch(2, command("moved"))
    wait_for_step(run, 5, two)
    two.send_signal(signal.SIGTERM)
    said, _ = two.communicate(timeout=200)
    assert two.returncode == 143, said
    stopped = saved(run)
    assert f"stopped by SIGTERM after step {stopped}" in said

    four = launch(4, command("moved"))
    wait_for_step(run, stopped + 1, four)
    os.kill(children(four)[2], signal.SIGKILL)
    said, _ = four.communicate(timeout=200)
    assert four.returncode not in (0, 2), said

    one = launch(1, command("moved"))
    said, _ = one.communicate(timeout=200)
    assert one.returncode == 0, said
    assert "going on after step" in said

    alone = launch(1, command("alone"))
    said, _ = alone.communicate(timeout=200)
    assert alone.returncode == 0, said
    assert len(losses(run)) == STEPS + 1
    assert losses(run) == pytest.approx(losses(root / "alone"), rel=1e-4)
    results = [json.loads((root / name / "result.json").read_text()) for name in ("moved", "alone")]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-4)
