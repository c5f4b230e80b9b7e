"""Two processes pretrain one run together, are stopped, go on, and learn what one would learn."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from loomax.agents.pretrain.config import StageConfig
from loomax.agents.pretrain.data import Batches, Rows
from loomax.agents.pretrain.documents import load_documents
from loomax.agents.pretrain.presets import CONFIGS
from loomax.agents.pretrain.report import write_config
from loomax.agents.pretrain.score import Scorer
from loomax.agents.pretrain.train import Trainer
from loomax.models.lm import safetensors
from loomax.models.lm.presets import transformer_debug
from loomax.runtime.axes import MeshConfig
from loomax.runtime.mesh import make_mesh, replicated
from loomax.runtime.metrics import read

STAGE = StageConfig(length=16, batch=8, steps=4, lr=1e-2, end_lr=1e-3)

# Stops between two steps after a checkpoint, and goes on.
WORKER = """
import sys
from pathlib import Path
import jax
from loomax.runtime.compile import setup_cpu
from loomax.runtime.distributed import initialize_distributed
setup_cpu(devices=2)
initialize_distributed()
from loomax.agents.pretrain import train as job
from loomax.agents.pretrain.report import read_config

class Stopped(Exception):
    pass

class Stopping(job.MetricsWriter):
    def write(self, step, metrics, prefix=""):
        super().write(step, metrics, prefix)
        if step == 3:
            raise Stopped

run_dir, keep = Path(sys.argv[1]), job.MetricsWriter
job.MetricsWriter = Stopping
try:
    job.train(read_config(run_dir), run_dir)
except Stopped:
    job.MetricsWriter = keep
result = job.train(read_config(run_dir), run_dir)
print("RESULT", jax.device_count(), result.loss, result.tokens)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("documents")
    for number in range(40):
        (root / f"{number:02d}.txt").write_text(f"{number} green bottles, " * (1 + number % 5))
    base = CONFIGS["lm-debug"]
    return replace(
        base,
        model=replace(transformer_debug(), vocab=259, self_layers=1),
        stages=(STAGE,),
        data=replace(base.data, path=str(root), files="*", held_out=0.2),
        mesh=MeshConfig(replica=-1, fsdp=2),
        score=replace(base.score, every=0),
    )


@pytest.fixture(scope="module")
def together(config, tmp_path_factory):
    """The shared folder after two processes have run, and what each of them said."""
    run_dir = tmp_path_factory.mktemp("together")
    write_config(run_dir / "config.json", config)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    shared = {"LOOMAX_COORDINATOR": f"localhost:{port}", "LOOMAX_PROCESSES": "2"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(run_dir)],
            env=os.environ | shared | {"LOOMAX_PROCESS": str(process)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    try:
        said = [process.communicate(timeout=500) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said[0][1] + said[1][1]
    return run_dir, [out for out, _ in said]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_learn_what_one_learns_from_their_rows(config, together):
    run_dir, _ = together
    documents = load_documents(config.data)
    mesh = make_mesh(MeshConfig(), jax.devices()[:2])
    trainer = Trainer(config, run_dir / "never", documents, mesh)
    seed = int(np.random.SeedSequence([config.seed, 0]).generate_state(1)[0])
    parts = [
        Batches(documents, config.data, length=16, rows=4, seed=seed, share=(p, 2))
        for p in range(2)
    ]
    learner = trainer.learner
    state, _ = trainer.begin()
    program = jax.jit(
        partial(learner.step, STAGE),
        out_shardings=replicated(mesh),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    for _ in range(STAGE.steps):
        rows = Rows(*map(np.concatenate, zip(*map(next, parts), strict=True)))
        state, _ = program(state, *learner.place(rows))
    held = safetensors.load(run_dir / "model.safetensors", config.model)
    for (path, there), leaf in zip(
        jax.tree_util.tree_leaves_with_path(held), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(there, leaf, atol=2e-4, err_msg=jax.tree_util.keystr(path))
    score = Scorer(learner, STAGE, documents, most=config.score.rows)(state.params)
    assert json.loads((run_dir / "result.json").read_text())["loss"] == pytest.approx(
        score.loss, rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_train_one_run(together):
    run_dir, said = together
    results = [text.splitlines()[-1] for text in said]
    assert results[0] == results[1] and results[0].startswith("RESULT 4 ")
    held = json.loads((run_dir / "result.json").read_text())
    assert results[0].split()[2:] == [str(held["loss"]), str(held["tokens"])]
    # One process writes and prints: every row and the score stand there once.
    assert [row["step"] for row in read(run_dir) if "train/loss" in row] == [1, 2, 3, 4]
    assert "going on after step 2" in said[0] and "held-out" not in said[1]
    notes = json.loads((run_dir / "checkpoints" / "step_00000004" / "meta.json").read_text())
    assert len(notes["data"]) == 2 and notes["data"]["0"] != notes["data"]["1"]
