"""Checks with a local Ray, for a process without JAX; prints the name of each that passed."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import ray

from loomax.agents.workflow.external.pool import Pool
from loomax.agents.workflow.external.protocol import SimulatorError
from loomax.agents.workflow.external.ray_engine import ray_engine
from tests.agents.workflow.external.simulators import (
    BATCH,
    RESETS,
    Episodes,
    Walk,
    broken,
    config,
    draw_actions,
    faulty,
    without_workers,
)

ENGINE = ray_engine(num_cpus=1)
SEEDS = np.arange(BATCH, dtype=np.uint32)


def same(actions, folder):
    """Steps and microbatches after a reset."""
    wanted = without_workers(Episodes, actions[:3], seed=SEEDS)
    with Pool(config(Episodes, resets=RESETS), ENGINE) as pool:
        assert len(set(pool.pids)) == 2
        pool.reset({"seed": SEEDS})
        for t in range(2):
            found = pool.step({"action": actions[t]})
            np.testing.assert_array_equal(found["obs"], wanted["obs"][t])
        for i in range(2):
            found = pool.step({"action": actions[2, i::2]}, np.arange(BATCH)[i::2])
            np.testing.assert_array_equal(found["obs"], wanted["obs"][2, i::2])


def killed(actions, folder):
    """An actor that dies in a step is replaced, and its work is replayed."""
    _replayed("killed", 60.0, actions, folder)


def hangs(actions, folder):
    """The same with one that does not answer."""
    _replayed("hangs", 3.0, actions, folder)


def _replayed(kind, limit, actions, folder):
    wanted = without_workers(Walk, actions[:4])
    folder = folder / kind
    folder.mkdir()
    with Pool(config(faulty(Walk, kind, 2, folder), step_s=limit), ENGINE) as pool:
        first = pool.pids
        for t in range(4):
            found = pool.step({"action": actions[t]})
            np.testing.assert_array_equal(found["obs"], wanted["obs"][t])
        assert pool.pids[0] != first[0] and pool.pids[1] == first[1]


def fails(actions, folder):
    """The reason why a simulator could not be made arrives."""
    message = r"worker 0 \(pid \d+ on .*\) did not start: OSError: no display for 0"
    try:
        Pool(config(broken), ENGINE).start()
    except SimulatorError as error:
        assert re.search(message, str(error)), error
    else:
        raise AssertionError("it started")


if __name__ == "__main__":
    # Workers find the modules as this process does.
    path = os.pathsep.join(path for path in sys.path if path)
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    for check in (same, killed, hangs, fails):
        check(draw_actions(), Path(sys.argv[1]))
        print(f"passed: {check.__name__}", flush=True)
    assert "jax" not in sys.modules
    ray.shutdown()
