"""What an undisturbed run gives, computed without workers."""

import numpy as np
import pytest

from tests.agents.workflow.external.simulators import BATCH, WIDTH


@pytest.fixture(scope="session")
def actions():
    return np.random.default_rng(0).integers(0, 7, (10, BATCH, WIDTH)).astype(np.float32)


@pytest.fixture(scope="session")
def undisturbed():
    """Outputs of all steps; simulator j of `count` has the rows j, j + count, ..."""

    def run(factory, actions, count=4, seed=None):
        found = {"obs": np.zeros_like(actions), "steps": np.zeros(actions.shape[:2], np.int32)}
        for j in range(count):
            simulator = factory(j)
            if seed is not None:
                simulator.reset({"seed": seed[j::count]})
            for t, action in enumerate(actions):
                for name, x in simulator.step({"action": action[j::count]}).items():
                    found[name][t, j::count] = x
        return found

    return run


@pytest.fixture
def no_leaks():
    """Nothing is left in shared memory."""
    before = blocks()
    yield
    assert blocks() <= before


def blocks():
    from pathlib import Path

    return {path.name for path in Path("/dev/shm").glob("psm_*")}
