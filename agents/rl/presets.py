"""The named training configurations. Imports no JAX."""

from dataclasses import replace

from loomax.agents.rl.config import (
    EvalConfig,
    FitConfig,
    OptimiserConfig,
    RLConfig,
    RolloutConfig,
    TrainConfig,
)
from loomax.agents.rl.loss_config import PPOLossConfig
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.envs.tabletop.config import TabletopConfig
from loomax.models.flow_vla import config as models
from loomax.models.flow_vla.sampler_config import SamplerConfig


def tabletop_model() -> models.FlowVLAConfig:
    """`tiny` with a narrower trunk: its key points have done most of the seeing already."""
    return replace(models.tiny(), width=64, mlp=128, depth=2)


def quickstart() -> TrainConfig:
    """The main job: lift the named cube, on a laptop CPU."""
    return TrainConfig(
        name="quickstart",
        env=TabletopConfig(task="pick", horizon=30, cubes=3, reward="shaped"),
        policy=PolicyConfig(model=tabletop_model(), critic="privileged"),
        ground=FitConfig(episodes=1536, noise_std=0.2, steps=1500, batch=128, lr=1e-3),
        sft=FitConfig(episodes=64, noise_std=0.1, steps=1000, batch=128, lr=1e-3),
        rl=RLConfig(
            rollout=RolloutConfig(envs=256, calls=8, chunk=5),
            sampler=SamplerConfig(kind="sde", steps=4, noise_level=0.5),
            loss=PPOLossConfig(reduction="sum"),
            optimiser=OptimiserConfig(lr=1e-4, critic_lr=1e-3, kl_target=0.05),
        ),
        eval=EvalConfig(episodes=512, every=20),
        iterations=150,
    )


def debug() -> TrainConfig:
    """Everything that quickstart does, in seconds, to no effect."""
    return TrainConfig(
        name="debug",
        env=TabletopConfig(task="pick", horizon=8, cubes=2, image_size=16, wrist_size=8),
        policy=PolicyConfig(model=models.debug(), critic_hidden=(16,), noise_hidden=(8,)),
        ground=FitConfig(episodes=16, steps=2, batch=16, log_every=1),
        sft=FitConfig(episodes=16, steps=2, batch=16, log_every=1),
        rl=RLConfig(
            rollout=RolloutConfig(envs=16, calls=2, chunk=4),
            sampler=SamplerConfig(kind="sde", steps=2),
            optimiser=OptimiserConfig(epochs=1, minibatches=2, critic_warmup=0),
        ),
        eval=EvalConfig(episodes=16, every=2, video_episodes=1),
        iterations=4,
        checkpoint_every=2,
    )


CONFIGS = {config.name: config for config in (quickstart(), debug())}
