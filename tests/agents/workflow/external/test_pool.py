"""Workers: same results as without them, at any cut of the batch, and what is refused."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from loomax.agents.workflow.external.config import PoolConfig
from loomax.agents.workflow.external.pool import Pool
from loomax.agents.workflow.external.protocol import SimulatorError
from loomax.agents.workflow.external.simulator import ArraySpec
from tests.agents.workflow.external.simulators import (
    BATCH,
    INPUTS,
    OUTPUTS,
    RESETS,
    Episodes,
    Walk,
    Wrong,
    broken,
    config,
    double,
    vanishing,
)

pytestmark = pytest.mark.usefixtures("no_leaks")


def alive(pid):
    """Whether a process runs; what its parent has yet to wait for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=30):
    for _ in range(int(seconds * 20)):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_steps_and_microbatches(actions, undisturbed):
    wanted = undisturbed(Walk, actions)
    with Pool(config(Walk)) as pool:
        pids = pool.pids
        assert len(set(pids)) == 2 and os.getpid() not in pids
        for t in range(4):
            found = pool.step({"action": actions[t]})
            np.testing.assert_array_equal(found["obs"], wanted["obs"][t])
            np.testing.assert_array_equal(found["steps"], wanted["steps"][t])
        # Microbatches of every second row, then of every fourth in another order.
        for t, cuts in ((4, (0, 1)), (5, (3, 0, 2, 1))):
            for i in cuts:
                rows = np.arange(BATCH, dtype=np.int32)[i :: len(cuts)]
                found = pool.step({"action": actions[t, i :: len(cuts)]}, rows)
                np.testing.assert_array_equal(found["obs"], wanted["obs"][t, i :: len(cuts)])
        assert found["obs"].dtype == np.float32 and found["steps"].dtype == np.int32
        for rows, message in [
            ([0, 2], "1 of the 3 rows of simulator 0: .* divides the 4 sim"),
            ([0, 0], "a row comes twice"),
            ([12], "rows from 12 to 12: the pool has 0 to 11"),
            ([[0]], "give the numbers of the rows"),
        ]:
            with pytest.raises(ValueError, match=message):
                pool.step({"action": actions[0]}, np.array(rows))
        for arrays, message in [
            ({}, "pool: got nothing; declared are action"),
            ({"action": actions[0, :5]}, r"'action' is float32\(5, 3\), declared is float32\(12,"),
            ({"action": actions[0].astype(float)}, "'action' is float64"),
        ]:
            with pytest.raises(ValueError, match=message):
                pool.step(arrays)
        with pytest.raises(ValueError, match="declares no resets"):
            pool.reset({"seed": np.zeros(BATCH, np.uint32)})
    assert gone(pids)
    with pytest.raises(ValueError, match="the pool is closed"):
        pool.step({"action": actions[0]})


def test_resets(actions, undisturbed):
    seeds = np.arange(BATCH, dtype=np.uint32)
    wanted = undisturbed(Episodes, actions[:2], seed=seeds)
    with Pool(config(Episodes, resets=RESETS)) as pool:
        for _ in range(2):
            start = pool.reset({"seed": seeds})
            np.testing.assert_array_equal(start["obs"][:, 0], seeds % 7)
            for t in range(2):
                found = pool.step({"action": actions[t]})
                np.testing.assert_array_equal(found["obs"], wanted["obs"][t])


def test_without_state_any_rows_are_shared_evenly(actions):
    with Pool(config(double, stateful=False, simulators=None)) as pool:
        for rows in (12, 5, 1):
            found = pool.step({"action": actions[0, :rows]})
            np.testing.assert_array_equal(found["obs"], actions[0, :rows] * 2)
            counts = sorted(np.unique(found["steps"], return_counts=True)[1].tolist())
            assert counts == {12: [6, 6], 5: [2, 3], 1: [1]}[rows]
        with pytest.raises(ValueError, match="13 rows: the pool has room for 12"):
            pool.step({"action": np.zeros((13, 3), np.float32)})
        with pytest.raises(ValueError, match="keeps no state, so it takes no rows"):
            pool.step({"action": actions[0]}, np.arange(12))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (broken, r"worker 0 \(pid \d+\) did not start: OSError: no display for 0$"),
        (vanishing, r"worker 0 \(pid \d+\) did not start: ended with exit code 3 before"),
    ],
)
def test_a_worker_that_does_not_start(factory, message):
    pool = Pool(config(factory))
    with pytest.raises(SimulatorError, match=message):
        pool.start()
    assert pool.pids == ()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"obs": 1.0}, "ValueError: the simulator gave obs; declared are obs, steps"),
        (
            {"obs": np.zeros((2, 3)), "steps": np.zeros(3, int)},
            r"'obs' is float64\(2, 3\), declared is float32\(3, 3\)",
        ),
        (
            {"obs": np.zeros((3, 3)), "steps": np.zeros(3)},
            r"'steps' is float64\(3,\), declared is int32\(3,\)",
        ),
    ],
)
def test_outputs_that_were_not_declared(found, message, actions):
    with Pool(config(partial(Wrong, found), workers=1, simulators=4)) as pool:
        with pytest.raises(SimulatorError, match=message):
            pool.step({"action": actions[0]}, caller="stage 'sim'")
        with pytest.raises(SimulatorError, match="stage 'sim': simulator 0 failed before"):
            pool.step({"action": actions[0]}, caller="stage 'sim'")


PARENT = """
import os, signal, threading, time
import numpy as np
from tests.agents.workflow.external.simulators import Sleeper, Walk, config
from loomax.agents.workflow.external.pool import Pool

if __name__ == "__main__":
    pool = Pool(config({factory}))
    pool.start()
    print(*pool.pids, os.getpid(), flush=True)
    {end}
"""


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
STEP = """threading.Thread(target=pool.step, args=({"action": np.zeros((12, 3), "f4")},)).start()
    while not os.path.exists("asleep"): time.sleep(0.05)
    """


@pytest.mark.parametrize(
    ("factory", "end"),
    [("Walk", KILL), ("Sleeper", STEP + KILL), ("Walk", "del pool"), ("Walk", "pass")],
    ids=["killed", "killed in a step", "forgotten", "ended"],
)
def test_no_process_and_no_memory_outlives_the_parent(factory, end, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(factory=factory, end=end))
    found = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    *pids, parent = found.stdout.split()
    assert len(pids) == 2, found.stderr
    assert gone([int(pid) for pid in pids])
    for _ in range(200):
        left = list(Path("/dev/shm").glob(f"loomax-{parent}-*"))
        if not left:
            break
        time.sleep(0.05)
    assert left == []
    # Python's resource tracker says what it had to clean up, and nothing else is printed.
    assert ("leaked" in found.stderr) == ("SIGKILL" in end) and "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(batch=0), "batch is 0: it must be above 0"),
        (dict(simulators=0), "simulators is 0"),
        (dict(step_s=0), "step_s is 0"),
        (dict(snapshot_every=0), "snapshot_every is 0: it must be 1 or more"),
        (dict(restarts=-1), "restarts is -1"),
        (dict(simulators=3), "3 simulators on 2 workers: give a multiple"),
        (dict(simulators=8), "a batch of 12 on 8 simulators"),
        (dict(stateful=False), "without state there are no resets and one simulator a worker"),
        (dict(factory=lambda index: None), "factory cannot be pickled .*: define it at the top"),
        (dict(outputs={}), "without inputs or outputs"),
    ],
)
def test_broken_settings(options, message):
    given = dict(factory=Walk, inputs=INPUTS, outputs=OUTPUTS, batch=12, workers=2, simulators=4)
    with pytest.raises(ValueError, match=message):
        PoolConfig(**{**given, **options})


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [((-1,), "float32", "shape is"), ((), "float31", "none of NumPy's"), ((), "object", "no numb")],
)
def test_broken_arrays(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        ArraySpec(shape, dtype)


def test_workers_import_no_jax():
    code = "import sys, loomax.agents.workflow.external.pool; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
