"""The toy run: a point mass and a small MLP policy, learned from nothing in seconds.

Imports no JAX.
"""

from typing import Literal

from loomax.agents.rl.config import (
    DemonstrationConfig,
    EvalConfig,
    FitConfig,
    OptimiserConfig,
    RLConfig,
    RolloutConfig,
    TrainConfig,
)
from loomax.agents.rl.loss_config import CreditConfig, GRPOLossConfig, PPOLossConfig
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.envs.point_mass_config import PointMassConfig
from loomax.models.flow_vla.sampler_config import SamplerConfig

LEARNED_STD = {"std_min": 0.15, "std_max": 0.3}
CRITIC = {"critic_lr": 3e-3, "critic_warmup": 2}


def point_mass(
    algorithm: Literal["ppo", "grpo"] = "ppo", kind: Literal["sde", "noise", "cps"] = "sde"
) -> TrainConfig:
    """A complete configuration without images, demonstrations or video.

    GRPO plays whole episodes from shared initial states; PPO plays on over their ends.
    """
    grpo = algorithm == "grpo"
    env = PointMassConfig()
    chunk = 2
    calls = env.horizon // chunk if grpo else 8
    return TrainConfig(
        name="point-mass-grpo" if grpo else "point-mass",
        env=env,
        policy=MLPPolicyConfig(horizon=chunk),
        ground=FitConfig(steps=0),
        sft=DemonstrationConfig(steps=0),
        rl=RLConfig(
            rollout=RolloutConfig(envs=256, calls=calls, chunk=chunk, auto_reset=not grpo),
            sampler=SamplerConfig(kind=kind, **(LEARNED_STD if kind == "noise" else {})),
            # A time limit counts as failure.
            credit=CreditConfig() if grpo else CreditConfig(bootstrap="none"),
            loss=GRPOLossConfig() if grpo else PPOLossConfig(),
            optimiser=OptimiserConfig(lr=1e-3, **({"critic_warmup": 0} if grpo else CRITIC)),
        ),
        eval=EvalConfig(video_episodes=0),
    )
