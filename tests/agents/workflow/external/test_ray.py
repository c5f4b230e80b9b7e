"""The same pool with a real, local Ray; what is said without Ray."""

import os
import sys

import numpy as np
import pytest

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
    faulty,
)


@pytest.fixture(scope="module")
def engine():
    ray = pytest.importorskip("ray")
    # Workers find the tests' modules as this process does.
    path = os.pathsep.join(path for path in sys.path if path)
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    yield ray_engine(num_cpus=1)
    ray.shutdown()


@pytest.mark.multiprocess
def test_the_same_results(engine, actions, undisturbed):
    seeds = np.arange(BATCH, dtype=np.uint32)
    wanted = undisturbed(Episodes, actions[:3], seed=seeds)
    with Pool(config(Episodes, resets=RESETS), engine) as pool:
        assert len(set(pool.pids)) == 2
        pool.reset({"seed": seeds})
        for t in range(2):
            found = pool.step({"action": actions[t]})
            np.testing.assert_array_equal(found["obs"], wanted["obs"][t])
        for i in range(2):
            found = pool.step({"action": actions[2, i::2]}, np.arange(BATCH)[i::2])
            np.testing.assert_array_equal(found["obs"], wanted["obs"][2, i::2])


@pytest.mark.multiprocess
@pytest.mark.parametrize(("kind", "limit"), [("killed", 60.0), ("hangs", 1.0)])
def test_a_lost_worker_is_replayed(kind, limit, engine, tmp_path, actions, undisturbed):
    wanted = undisturbed(Walk, actions[:4])
    with Pool(config(faulty(Walk, kind, 2, tmp_path), step_s=limit), engine) as pool:
        first = pool.pids
        for t in range(4):
            found = pool.step({"action": actions[t]})
            np.testing.assert_array_equal(found["obs"], wanted["obs"][t])
        assert pool.pids[0] != first[0] and pool.pids[1] == first[1]


@pytest.mark.multiprocess
def test_a_worker_that_does_not_start(engine):
    message = r"worker 0 \(pid \d+ on .*\) did not start: OSError: no display for 0"
    with pytest.raises(SimulatorError, match=message):
        Pool(config(broken), engine).start()


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"Ray is not installed: pip install 'loomax\[ray\]'"):
        ray_engine()
