"""The same pool on a real, local Ray; and what is said without one."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from loomax.agents.workflow.external.pool import Pool
from loomax.agents.workflow.external.ray_engine import ray_engine
from tests.agents.workflow.external.simulators import Walk, config

HERE = Path(__file__).resolve().parent
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.slow  # Ray takes its time to start, and each actor too
@pytest.mark.multiprocess
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
def test_a_real_ray(tmp_path):
    # In a process of its own: Ray forks, and this one runs JAX.
    command = [sys.executable, HERE / "ray_checks.py", tmp_path]
    found = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert found.returncode == 0, found.stderr
    # Ray prints there as well.
    passed = [line for line in found.stdout.splitlines() if line.startswith("passed: ")]
    assert passed == [f"passed: {name}" for name in ("same", "killed", "hangs", "fails")]


@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
def test_a_ray_that_was_not_started():
    with pytest.raises(ValueError, match="Ray is not started: call ray.init before JAX is used"):
        Pool(config(Walk), ray_engine()).start()


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"Ray is not installed: pip install 'loomax\[ray\]'"):
        ray_engine()
