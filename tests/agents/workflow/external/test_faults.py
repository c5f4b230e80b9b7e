"""Workers that are killed or hang: found, named, replaced, and nobody sees it in the results."""

import logging
import os

import numpy as np
import pytest

from loomax.agents.workflow.external.journal import Journal
from loomax.agents.workflow.external.pool import Pool
from loomax.agents.workflow.external.protocol import SimulatorError
from tests.agents.workflow.external.simulators import (
    BATCH,
    RESETS,
    Episodes,
    Kept,
    Walk,
    config,
    double,
    faulty,
)

pytestmark = pytest.mark.usefixtures("no_leaks")
NAMED = r"stage 'sim': worker 0 \(pid \d+\) "


def steps(pool, actions):
    found = [pool.step({"action": action}, caller="stage 'sim'") for action in actions]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def same(found, wanted):
    for name, x in wanted.items():
        np.testing.assert_array_equal(found[name], x)


@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_worker_is_replayed(times, tmp_path, actions, undisturbed, caplog):
    factory = faulty(Walk, "killed", 4, tmp_path, times)
    with Pool(config(factory)) as pool, caplog.at_level(logging.WARNING):
        first = pool.pids
        same(steps(pool, actions), undisturbed(Walk, actions))
        assert pool.pids[0] != first[0] and pool.pids[1] == first[1]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == times and "ended with signal 9; restart 1 of 2" in said[0]


def test_the_last_snapshot_is_restored(tmp_path, actions, undisturbed, monkeypatch):
    monkeypatch.setenv("WALK_FOLDER", str(tmp_path))
    factory = faulty(Kept, "killed", 8, tmp_path)
    with Pool(config(factory, snapshot_every=3, replay_limit=3)) as pool:
        same(steps(pool, actions), undisturbed(Walk, actions))
    # 8 steps were done; the last snapshot was taken after 6. The worker has simulators 0 and 1.
    restored = {path.name: path.read_text() for path in tmp_path.glob("restored-*")}
    assert restored == {"restored-0": "6", "restored-1": "6"}


def test_replay_begins_at_the_last_reset(tmp_path, actions, undisturbed):
    factory = faulty(Episodes, "killed", 4, tmp_path)
    seeds = np.arange(BATCH, dtype=np.uint32)
    # Fewer steps are kept than were made in all.
    with Pool(config(factory, resets=RESETS, replay_limit=6)) as pool:
        for episode in (seeds + 1, seeds):
            pool.reset({"seed": episode})
            found = steps(pool, actions[: 3 if episode[0] else 6])
    same(found, undisturbed(Episodes, actions[:6], seed=seeds))


def test_a_worker_killed_between_steps_of_microbatches(tmp_path, actions, undisturbed):
    wanted = undisturbed(Walk, actions)
    with Pool(config(Walk)) as pool:
        for t in range(5):
            for i in range(2):
                rows = np.arange(BATCH)[i::2]
                found = pool.step({"action": actions[t, i::2]}, rows)
                np.testing.assert_array_equal(found["obs"], wanted["obs"][t, i::2])
                if t in (1, 3):
                    os.kill(pool.pids[i], 9)


def test_a_hung_worker_is_replaced(tmp_path, actions, undisturbed, caplog):
    factory = faulty(Walk, "hangs", 2, tmp_path)
    with Pool(config(factory, step_s=2.0)) as pool, caplog.at_level(logging.WARNING):
        same(steps(pool, actions[:4]), undisturbed(Walk, actions[:4]))
    (record,) = caplog.records
    assert "gave no answer for 2 s and was killed; restart 1 of 2" in record.getMessage()


def test_a_worker_that_always_hangs(tmp_path, actions):
    factory = faulty(Walk, "hangs", 0, tmp_path, times=99)
    pool = Pool(config(factory, step_s=1.0, restarts=1))
    message = NAMED + "gave no answer for 1 s and was killed, after 1 restarts in this call"
    with pytest.raises(SimulatorError, match=message):
        steps(pool, actions)
    assert pool.pids == ()


def test_an_exception_is_no_fault_of_the_worker(tmp_path, actions, undisturbed):
    factory = faulty(Episodes, "raises", 2, tmp_path)
    seeds = np.arange(BATCH, dtype=np.uint32)
    with Pool(config(factory, resets=RESETS)) as pool:
        first = pool.pids
        with pytest.raises(SimulatorError, match=NAMED + "failed: ArithmeticError: no solution"):
            steps(pool, actions)
        with pytest.raises(SimulatorError, match="simulator 0 failed before .*: reset it"):
            steps(pool, actions)
        # A worker that is lost now comes back without what failed.
        os.kill(pool.pids[0], 9)
        pool.reset({"seed": seeds})
        same(steps(pool, actions), undisturbed(Episodes, actions, seed=seeds))
        assert pool.pids[1] == first[1]


def test_too_much_to_replay(tmp_path, actions):
    factory = faulty(Walk, "killed", 4, tmp_path)
    message = NAMED + "ended with signal 9; simulator 0 made more than 3 steps .*replay_limit"
    with pytest.raises(SimulatorError, match=message), Pool(config(factory, replay_limit=3)) as p:
        steps(p, actions)


def test_without_state_the_call_is_repeated(actions):
    with Pool(config(double, stateful=False, simulators=None)) as pool:
        pool.step({"action": actions[0]})
        os.kill(pool.pids[1], 9)
        found = pool.step({"action": actions[1]})
        np.testing.assert_array_equal(found["obs"], actions[1] * 2)


def test_a_journal_is_bounded():
    journal = Journal(limit=2)
    x = np.zeros(1)
    for replayable in (True, True, False, False):
        journal.add("step", {"x": x})
        assert journal.replayable == replayable and len(journal.entries) <= 3
    journal.keep(b"state")
    assert journal.replayable and not journal.entries and journal.state == b"state"
    x += 1
    journal.add("step", {"x": x})
    x += 1
    assert journal.entries[0].arrays["x"] == 1
    journal.add("reset", {"x": x})
    assert [entry.kind for entry in journal.entries] == ["reset"] and journal.state is None
