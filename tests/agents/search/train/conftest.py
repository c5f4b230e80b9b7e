"""A finished run of the debug configuration."""

import jax
import pytest

from loomax.agents.search.train.presets import CONFIGS
from loomax.agents.search.train.train import train
from loomax.runtime.mesh import MeshConfig, make_mesh


@pytest.fixture(scope="package")
def debug():
    return CONFIGS["searcher-debug"]


@pytest.fixture(scope="package")
def reinforced():
    return CONFIGS["searcher-grpo-debug"]


@pytest.fixture(scope="package")
def mesh():
    return make_mesh(MeshConfig(), jax.devices()[:1])


@pytest.fixture(scope="package")
def finished(debug, mesh, tmp_path_factory):
    """Folder and result."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run_dir.mkdir()
    return run_dir, train(debug, run_dir, mesh)
