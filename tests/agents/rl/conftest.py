"""Small runs on the point mass."""

from dataclasses import replace

import jax
import pytest

from loomax.agents.rl.config import EvalConfig, TrainConfig
from loomax.agents.rl.loss_config import GroupConfig
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.parts import Parts, build
from loomax.agents.rl.toy import point_mass
from loomax.agents.rl.train import train
from loomax.runtime.mesh import MeshConfig, make_mesh


def small(algorithm: str = "ppo", kind: str = "sde", **rollout) -> TrainConfig:
    """The toy run with 16 environments, 4 calls and a narrow policy."""
    config = point_mass(algorithm, kind)
    rl = config.rl
    rl = replace(
        rl,
        rollout=replace(rl.rollout, **{"envs": 16, "calls": 4} | rollout),
        optimiser=replace(rl.optimiser, epochs=2, minibatches=2),
        group=GroupConfig(size=4 if algorithm == "grpo" else 8),
    )
    scored = EvalConfig(episodes=16, every=2, video_episodes=0)
    return replace(config, policy=MLPPolicyConfig(width=16), rl=rl, eval=scored)


def on_devices(config: TrainConfig, devices: int = 1) -> Parts:
    """The parts of a run on the first devices."""
    config.validate(devices)
    return build(config, make_mesh(MeshConfig(), jax.devices()[:devices]))


@pytest.fixture(scope="session", name="small")
def small_fixture():
    """`small(algorithm, kind, **rollout) -> TrainConfig`."""
    return small


@pytest.fixture(scope="session", name="parts_of")
def parts_fixture():
    """`parts_of(config, devices=1) -> Parts`."""
    return on_devices


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a run of four iterations, its configuration and its result."""
    config = replace(small(), iterations=4, checkpoint_every=2)
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    return run_dir, config, train(config, run_dir)
