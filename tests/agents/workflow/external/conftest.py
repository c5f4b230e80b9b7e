"""Actions, what an undisturbed run gives, and a look for what was left behind."""

import os
from pathlib import Path

import pytest

from tests.agents.workflow.external.simulators import draw_actions, without_workers


@pytest.fixture(scope="session")
def actions():
    return draw_actions()


@pytest.fixture(scope="session")
def undisturbed():
    return without_workers


@pytest.fixture
def no_leaks():
    """Nothing of this process is left in shared memory."""
    yield
    assert list(Path("/dev/shm").glob(f"loomax-{os.getpid()}-*")) == []
