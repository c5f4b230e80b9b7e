"""Configuration of the MLP flow policy. Imports no JAX."""

from dataclasses import dataclass

from loomax.agents.rl.bounds import at_least_one


@dataclass(frozen=True)
class MLPPolicyConfig:
    """Sizes of an MLP flow policy."""

    horizon: int = 2
    action_dim: int = 2
    width: int = 64

    def __post_init__(self):
        for name in ("horizon", "action_dim", "width"):
            at_least_one(f"policy.{name}", getattr(self, name), "see --help")

    def check(self, action_size: int) -> None:
        """Refuses a policy whose actions do not cover those of an environment.

        Raises:
            ValueError: naming both sizes.
        """
        if self.action_dim < action_size:
            raise ValueError(
                f"policy.action_dim is {self.action_dim}; the environment's actions have "
                f"{action_size} dimensions, so use at least that"
            )
