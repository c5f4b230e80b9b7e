"""The named training configurations. Imports no JAX."""

from dataclasses import replace

from loomax.agents.rl.config import (
    DemonstrationConfig,
    EvalConfig,
    FitConfig,
    OptimiserConfig,
    RLConfig,
    RolloutConfig,
    TrainConfig,
)
from loomax.agents.rl.loss_config import CreditConfig, PPOLossConfig
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.agents.rl.toy import point_mass
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
        env=TabletopConfig(task="pick", horizon=40, cubes=3, reward="shaped"),
        policy=PolicyConfig(model=tabletop_model(), critic="privileged"),
        # Loud noise, so that the prefix also sees displaced cubes and missed grasps.
        ground=FitConfig(episodes=1536, noise_std=0.5, steps=1500, batch=128, lr=1e-3),
        sft=DemonstrationConfig(episodes=64, noise_std=0.1, steps=1000, batch=128, lr=1e-3),
        rl=RLConfig(
            rollout=RolloutConfig(envs=256, calls=8, chunk=5),
            sampler=SamplerConfig(kind="sde", steps=4, noise_level=0.5),
            # A time limit counts as failure: what is scored is success within the horizon.
            credit=CreditConfig(bootstrap="none"),
            loss=PPOLossConfig(level="action"),
            optimiser=OptimiserConfig(lr=1.5e-4, critic_lr=1e-3, epochs=3, kl_target=0.03, ema=0.8),
        ),
        eval=EvalConfig(episodes=512, every=20, stop_at=0.97),
        iterations=100,
    )


def debug() -> TrainConfig:
    """Everything that quickstart does, in seconds, to no effect."""
    return TrainConfig(
        name="debug",
        env=TabletopConfig(task="pick", horizon=8, cubes=2, image_size=16, wrist_size=8),
        policy=PolicyConfig(model=models.debug(), critic_hidden=(16,)),
        ground=FitConfig(episodes=16, steps=2, batch=16, log_every=1),
        # In so few steps no demonstration succeeds.
        sft=DemonstrationConfig(episodes=16, steps=2, batch=16, log_every=1, failures=True),
        rl=RLConfig(
            rollout=RolloutConfig(envs=16, calls=2, chunk=4),
            sampler=SamplerConfig(kind="sde", steps=2),
            optimiser=OptimiserConfig(epochs=1, minibatches=2, critic_warmup=0),
        ),
        eval=EvalConfig(episodes=16, every=2, video_episodes=1),
        iterations=4,
        checkpoint_every=2,
    )


def pick_place() -> TrainConfig:
    """The harder task: put the named cube on the named disc."""
    return replace(
        quickstart(),
        name="pick-place",
        env=TabletopConfig(task="pick-place", horizon=60, cubes=2, reward="shaped"),
        iterations=200,
    )


def pi0_model() -> models.FlowVLAConfig:
    """pi0 at full size on the tabletop's two cameras; a frozen bfloat16 prefix."""
    return replace(
        models.pi0(),
        cameras=(models.CameraConfig("scene", 224), models.CameraConfig("wrist", 224)),
        horizon=5,
        dtype="bfloat16",
        prefix_param_dtype="bfloat16",
        remat="full",
    )


def pi0_tabletop() -> TrainConfig:
    """pi0 (3.2 billion parameters) on pick-and-place; for 16 chips of 16 GiB.

    Sizes and rates are those that piRL reports for pi0 (arXiv 2510.25889, tables 11-13): a suffix
    critic, Flow-SDE with K = 4 and a = 0.5, chunks of 5 actions, 2048 samples a minibatch.

    No pretrained weights are read yet, so `train` refuses it unless `policy.weights` is "random";
    `aot`, `plan` and `bench` need no weights.
    """
    return TrainConfig(
        name="pi0-tabletop",
        env=TabletopConfig(
            task="pick-place",
            horizon=60,
            cubes=3,
            reward="shaped",
            image_size=224,
            wrist_size=224,
        ),
        policy=PolicyConfig(model=pi0_model(), critic="suffix", critic_hidden=(512, 256, 128)),
        # A pretrained vision-language model needs no grounding.
        ground=FitConfig(steps=0),
        sft=DemonstrationConfig(
            episodes=128, noise_std=0.1, steps=2000, batch=256, lr=2.5e-5, b2=0.95
        ),
        rl=RLConfig(
            rollout=RolloutConfig(envs=512, calls=16, chunk=5, store_context=False),
            sampler=SamplerConfig(kind="sde", steps=4, noise_level=0.5),
            loss=PPOLossConfig(reduction="sum"),
            optimiser=OptimiserConfig(lr=5e-6, critic_lr=1e-4, epochs=4, minibatches=4),
        ),
        eval=EvalConfig(episodes=512, every=10),
        iterations=300,
    )


CONFIGS = {
    config.name: config
    for config in (
        quickstart(),
        pick_place(),
        pi0_tabletop(),
        debug(),
        point_mass("ppo"),
        point_mass("grpo"),
    )
}
