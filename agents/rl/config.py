"""Configuration of training: what is fitted, how it acts, how it learns. Imports no JAX."""

from dataclasses import dataclass, field
from typing import Any

from loomax.agents.rl.bounds import (
    at_least_one,
    below_one,
    check_shared,
    not_negative,
    positive,
)
from loomax.agents.rl.loss_config import (
    CreditConfig,
    GroupConfig,
    GRPOLossConfig,
    PPOLossConfig,
)
from loomax.agents.rl.mlp_config import MLPPolicyConfig
from loomax.agents.rl.policy_config import PolicyConfig
from loomax.agents.rl.unused import refuse_unused
from loomax.envs.point_mass_config import PointMassConfig
from loomax.envs.tabletop.config import TabletopConfig
from loomax.models.flow_vla.sampler_config import SamplerConfig
from loomax.runtime.axes import MeshConfig
from loomax.runtime.bounds import check_seed, check_settings, check_sizes


@dataclass(frozen=True)
class FitConfig:
    """A supervised stage.

    Args:
        episodes: scripted episodes to collect (a multiple of 32).
        noise_std: standard deviation of the action noise under which they are collected.
        steps: optimiser steps (a multiple of log_every); 0 skips the stage.
    """

    episodes: int = 128
    noise_std: float = 0.1
    steps: int = 600
    batch: int = 128
    lr: float = 1e-3
    b2: float = 0.99
    clip_norm: float = 1.0
    log_every: int = 100

    def validate(self, name: str, devices: int) -> None:
        """Refuses sizes that do not divide.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        if not self.steps:
            return
        positive(f"{name}.lr", self.lr, "the default is 1e-3")
        positive(f"{name}.clip_norm", self.clip_norm, "1e9 never clips")
        below_one(f"{name}.b2", self.b2, "the default is 0.99")
        not_negative(f"{name}.noise_std", self.noise_std, "0 plays the expert as it is")
        for field_name, size in (("batch", self.batch), ("episodes", self.episodes)):
            check_shared(f"{name}.{field_name}", size, devices)
        at_least_one(f"{name}.steps", self.steps, "0 skips the stage")
        at_least_one(f"{name}.log_every", self.log_every, "the default is 100")
        if self.steps % self.log_every:
            raise ValueError(
                f"{name}.steps is {self.steps}; it must be a multiple of {name}.log_every "
                f"({self.log_every})"
            )


@dataclass(frozen=True)
class DemonstrationConfig(FitConfig):
    """The stage that imitates the expert.

    Args:
        failures: keep the episodes in which the expert failed too.
    """

    failures: bool = False


@dataclass(frozen=True)
class RolloutConfig:
    """How experience is gathered.

    Args:
        envs: parallel environments.
        calls: policy calls per environment and iteration.
        chunk: executed steps per policy call.
        auto_reset: start fresh episodes as old ones end; otherwise each iteration plays one
            episode per environment.
        store_context: keep encoded prefixes for the update instead of encoding again.
    """

    envs: int = 256
    calls: int = 8
    chunk: int = 5
    auto_reset: bool = True
    store_context: bool = True


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam for actor and critic.

    Args:
        ema: share of the old in the running average of the parameters, which is what is scored
            and shipped; 0 takes the last parameters.
        kl_target: after an iteration the actor's learning rate is divided or multiplied by 1.5
            when the KL divergence left [target / 2, 2 target]; 0 keeps it fixed.
        critic_warmup: iterations in which only the critic learns.
    """

    lr: float = 1e-4
    critic_lr: float = 1e-3
    b2: float = 0.95
    clip_norm: float = 1.0
    epochs: int = 4
    minibatches: int = 4
    kl_target: float = 0.0
    critic_warmup: int = 2
    ema: float = 0.0

    def validate(self) -> None:
        """Refuses numbers out of bounds.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        positive("optimiser.lr", self.lr, "the default is 1e-4")
        positive("optimiser.critic_lr", self.critic_lr, "the default is 1e-3")
        positive("optimiser.clip_norm", self.clip_norm, "1e9 never clips")
        below_one("optimiser.b2", self.b2, "the default is 0.95")
        below_one("optimiser.ema", self.ema, "0 takes the last parameters")
        not_negative("optimiser.kl_target", self.kl_target, "0 keeps the learning rate fixed")
        not_negative("optimiser.critic_warmup", self.critic_warmup, "0 for none")
        at_least_one("optimiser.minibatches", self.minibatches, "1 takes the whole rollout")
        at_least_one("optimiser.epochs", self.epochs, "1 reads every sample once")


@dataclass(frozen=True)
class EvalConfig:
    """How policies are scored.

    Args:
        episodes: episodes of a score, all on seeds that training never uses.
        seed: from which the episodes of the scores are drawn, and those of monitoring.
        every: iterations between monitoring scores (on a third set of seeds); 0 for none.
        stop_at: end training once two monitoring scores in a row reach this; above 1 never.
        video_episodes: episodes shown side by side in the before-and-after video.
    """

    episodes: int = 512
    every: int = 10
    stop_at: float = 1.1
    seed: int = 1_000_003
    video_episodes: int = 4

    def validate(self, devices: int) -> None:
        """Refuses numbers out of bounds.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        check_shared("eval.episodes", self.episodes, devices)
        not_negative("eval.every", self.every, "0 for no monitoring")
        positive("eval.stop_at", self.stop_at, "above 1 never stops")
        check_seed("eval.seed", self.seed)
        if not 0 <= self.video_episodes <= self.episodes:
            raise ValueError(
                f"eval.video_episodes is {self.video_episodes}; it must lie in 0.."
                f"{self.episodes}, the episodes of a score (0 makes no video)"
            )


@dataclass(frozen=True)
class RLConfig:
    """One iteration of reinforcement learning.

    Args:
        group: used by the GRPO loss only.
    """

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(kind="sde"))
    credit: CreditConfig = field(default_factory=CreditConfig)
    group: GroupConfig = field(default_factory=GroupConfig)
    loss: PPOLossConfig | GRPOLossConfig = field(default_factory=PPOLossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    @property
    def group_size(self) -> int:
        """Environments that share an initial state."""
        return self.group.size if isinstance(self.loss, GRPOLossConfig) else 1

    def validate(self, horizon: int, devices: int) -> None:
        """Refuses what does not fit together.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        rollout, optimiser = self.rollout, self.optimiser
        self.credit.validate()
        self.loss.validate()
        if self.sampler.kind == "ode":
            raise ValueError("sampler.kind='ode' has no likelihood; use sde, noise or cps")
        if self.sampler.kind != "noise" and not self.sampler.noise_level:
            raise ValueError(
                f"sampler.noise_level is 0, so sampler.kind={self.sampler.kind!r} has no "
                "likelihood; the default is 0.5"
            )
        if not 1 <= rollout.chunk <= horizon:
            raise ValueError(
                f"rollout.chunk is {rollout.chunk}; it must lie in 1..{horizon}, the policy's "
                "horizon"
            )
        check_shared("rollout.envs", rollout.envs, devices)
        at_least_one("rollout.calls", rollout.calls, "policy calls per iteration")
        optimiser.validate()
        if rollout.calls % optimiser.minibatches:
            raise ValueError(
                f"rollout.calls is {rollout.calls}; it must be a multiple of "
                f"optimiser.minibatches ({optimiser.minibatches})"
            )
        self._validate_groups()

    def _validate_groups(self) -> None:
        if not isinstance(self.loss, GRPOLossConfig):
            return
        self.group.validate()
        if self.rollout.auto_reset:
            raise ValueError(
                "rollout.auto_reset=True breaks groups that share initial states; GRPO needs "
                "rollout.auto_reset=False"
            )
        if self.rollout.envs % self.group.size:
            raise ValueError(
                f"rollout.envs is {self.rollout.envs}; it must be a multiple of group.size "
                f"({self.group.size})"
            )
        if self.optimiser.critic_warmup:
            raise ValueError(
                f"optimiser.critic_warmup is {self.optimiser.critic_warmup}, but GRPO has no "
                "critic; use optimiser.critic_warmup=0"
            )


@dataclass(frozen=True)
class TrainConfig:
    """A whole run: world, policy, supervised stages, reinforcement learning, scores.

    Args:
        iterations: iterations of reinforcement learning.
        checkpoint_every: iterations between checkpoints.
    """

    name: str
    env: TabletopConfig | PointMassConfig = field(default_factory=TabletopConfig)
    policy: PolicyConfig | MLPPolicyConfig = field(default_factory=PolicyConfig)
    ground: FitConfig = field(default_factory=FitConfig)
    sft: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    rl: RLConfig = field(default_factory=RLConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    iterations: int = 100
    checkpoint_every: int = 25
    seed: int = 0

    def validate(self, devices: int, env: Any = None) -> None:
        """Refuses an inconsistent configuration before anything is compiled.

        Args:
            env: the environment that is used in place of `env`, if there is one.

        Raises:
            ValueError: naming the value, the bound and the fix.
        """
        replica, fsdp, *_ = self.mesh.sizes(devices)
        shards = replica * fsdp
        horizon = getattr(self.policy, "model", self.policy).horizon
        self.rl.validate(horizon, shards)
        for name, fit in (("ground", self.ground), ("sft", self.sft)):
            fit.validate(name, shards)
        self.eval.validate(shards)
        check_seed("seed", self.seed)
        check_sizes(self.policy, "policy")
        check_settings(self)
        at_least_one("checkpoint_every", self.checkpoint_every, "iterations between checkpoints")
        if self.iterations < 0:
            raise ValueError(
                f"iterations is {self.iterations}; it must be at least 0 (0 only fits and scores)"
            )
        self._validate_episodes(self.env.horizon if env is None else env.horizon)
        self._validate_world(foreign=env is not None)
        refuse_unused(self.rl, self.policy, self.eval)

    def check_weights(self) -> None:
        """Refuses to train behind a prefix that nothing has ever fitted.

        Apart from `validate`, since compiling and measuring need no weights.

        Raises:
            ValueError: naming the fields.
        """
        visual = isinstance(self.policy, PolicyConfig)
        if visual and self.policy.weights == "fitted" and not self.ground.steps:
            raise ValueError(
                f"{self.name}: ground.steps is 0 and no weights are read, so the frozen prefix "
                "would stay as it was drawn; use ground.steps above 0, or "
                "policy.weights=random to train behind random weights all the same"
            )

    def _validate_episodes(self, horizon: int) -> None:
        """Refuses rollouts that are shorter than the one episode that they should hold."""
        rollout = self.rl.rollout
        if not rollout.auto_reset and rollout.calls * rollout.chunk < horizon:
            raise ValueError(
                f"rollout.calls is {rollout.calls}; without auto_reset an iteration plays whole "
                f"episodes of env.horizon={horizon} steps, so with rollout.chunk={rollout.chunk} "
                f"it must be at least {-(-horizon // rollout.chunk)}"
            )

    def _validate_world(self, foreign: bool) -> None:
        """Refuses stages that the world or the policy has nothing for."""
        if isinstance(self.policy, MLPPolicyConfig) and self.ground.steps:
            raise ValueError(
                f"ground.steps is {self.ground.steps}, but an MLP policy has no prefix to ground; "
                "use ground.steps=0"
            )
        if foreign or not isinstance(self.env, PointMassConfig):
            return
        if not isinstance(self.policy, MLPPolicyConfig):
            raise ValueError(
                "env is the point mass, which has no images, and the policy looks at images; use "
                "an MLP policy"
            )
        for name, value in (
            ("sft.steps", self.sft.steps),
            ("eval.video_episodes", self.eval.video_episodes),
        ):
            if value:
                raise ValueError(
                    f"{name} is {value}, but the point mass has neither expert nor images; use "
                    f"{name}=0"
                )
