"""Two processes with two devices each train a run together, and learn what one device learns."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from loomax.agents.rl.config import EvalConfig
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.parts import build
from loomax.agents.rl.report import write_config
from loomax.agents.rl.toy import point_mass
from loomax.agents.rl.train import Trainer
from loomax.runtime.checkpoint import Checkpointer
from loomax.runtime.mesh import MeshConfig, make_mesh, replicated
from loomax.runtime.metrics import read

ITERATIONS = 2

WORKER = """
import sys
from pathlib import Path
import jax
from loomax.runtime.compile import setup_cpu
from loomax.runtime.distributed import initialize_distributed
setup_cpu(devices=2)
initialize_distributed()
from loomax.agents.rl.scoring import read_config
from loomax.agents.rl.train import train
run_dir = Path(sys.argv[1])
result = train(read_config(run_dir), run_dir)
print("RESULT", jax.device_count(), result.success_after, result.env_steps)
"""


@pytest.fixture(scope="module")
def config():
    base = point_mass()
    rollout = replace(base.rl.rollout, envs=16, calls=4)
    optimiser = replace(base.rl.optimiser, epochs=2, minibatches=2, critic_warmup=0)
    return replace(
        base,
        policy=MLPPolicyConfig(width=16),
        rl=replace(base.rl, rollout=rollout, optimiser=optimiser),
        eval=EvalConfig(episodes=16, every=2, video_episodes=0),
        mesh=MeshConfig(replica=-1, fsdp=2),
        iterations=ITERATIONS,
        checkpoint_every=ITERATIONS,
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


@pytest.mark.multiprocess
def test_two_processes_learn_what_one_device_learns(config, together):
    run_dir, _ = together
    trainer = Trainer(config, run_dir)
    parts = build(config, make_mesh(MeshConfig(), jax.devices()[:1]))
    learner = parts.learner
    params = parts.init_params(key=trainer.key_of("init"))
    start = jax.device_get(params[0])
    state = jax.jit(learner.init)(*params, key=trainer.key_of("envs"))
    program = jax.jit(learner, out_shardings=replicated(parts.mesh))
    for _ in range(ITERATIONS):
        state, _ = program(state, key=trainer.key_of("rl"))
    held = Checkpointer(run_dir / "checkpoints" / "rl").restore(jax.eval_shape(lambda: state))
    assert held is not None and held[0] == ITERATIONS
    for (path, there), leaf in zip(
        jax.tree_util.tree_leaves_with_path(held[1]), jax.tree.leaves(state), strict=True
    ):
        np.testing.assert_allclose(
            there, leaf, rtol=1e-3, atol=1e-4, err_msg=jax.tree_util.keystr(path)
        )
    moved = [np.abs(a - b).max() for a, b in
             zip(jax.tree.leaves(state.trained), jax.tree.leaves(start), strict=True)]  # fmt: skip
    assert max(moved) > 1e-3


@pytest.mark.multiprocess
def test_two_processes_train_one_run(config, together):
    run_dir, said = together
    results = [text.splitlines()[-1] for text in said]
    assert results[0] == results[1] and results[0].startswith("RESULT 4 ")
    held = json.loads((run_dir / "result.json").read_text())
    assert results[0].split()[2:] == [str(held["success_after"]), str(held["env_steps"])]
    # One process writes and prints: every row and the table stand there once.
    assert [row["step"] for row in read(run_dir) if "rl/loss" in row] == [1, 2]
    assert "before RL" in said[0] and "before RL" not in said[1]
