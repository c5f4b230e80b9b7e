"""Configuration of a policy: the model and its reinforcement-learning heads. Imports no JAX."""

from dataclasses import dataclass, field
from typing import Literal

from loomax.agents.rl.bounds import at_least_one
from loomax.models.flow_vla.config import FlowVLAConfig, tiny


@dataclass(frozen=True)
class PolicyConfig:
    """A flow VLA with a noise network and a critic.

    Args:
        critic: what the value reads: the expert's hidden states ("suffix"), the prefix outputs
            ("prefix"), or the simulator's true state ("privileged", training only).
        weights: what the prefix, which neither fine-tuning nor RL changes, begins RL with:
            "fitted" is what the grounding stage made of it, so training without that stage is
            refused; "random" keeps what was drawn, for tests and measurements of time and memory.
        detach_critic: whether the critic's gradient stops at its inputs.
    """

    model: FlowVLAConfig = field(default_factory=tiny)
    critic: Literal["suffix", "prefix", "privileged"] = "privileged"
    critic_hidden: tuple[int, ...] = (128, 128)
    noise_hidden: tuple[int, ...] = (64,)
    detach_critic: bool = True
    weights: Literal["fitted", "random"] = field(default="fitted", metadata={"absent": "random"})

    def __post_init__(self):
        if self.critic not in ("suffix", "prefix", "privileged"):
            raise ValueError(f"policy.critic is {self.critic!r}; use suffix, prefix or privileged")
        for name in ("critic_hidden", "noise_hidden"):
            for width in getattr(self, name):
                at_least_one(f"policy.{name}", width, "or leave the layer out")

    def check(self, action_size: int, proprio_size: int) -> None:
        """Refuses a model that is too narrow for an environment.

        Raises:
            ValueError: naming the sizes.
        """
        if self.model.action_dim < action_size:
            raise ValueError(
                f"model.action_dim is {self.model.action_dim}; the environment's actions have "
                f"{action_size} dimensions, so use at least that"
            )
        if 0 < self.model.state_dim < proprio_size:
            raise ValueError(
                f"model.state_dim is {self.model.state_dim}; the environment's proprioception has "
                f"{proprio_size} numbers, so use at least that (or 0 to leave them out)"
            )
