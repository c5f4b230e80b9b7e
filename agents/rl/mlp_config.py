"""Configuration of the MLP flow policy. Imports no JAX."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MLPPolicyConfig:
    """Sizes of an MLP flow policy."""

    horizon: int = 2
    action_dim: int = 2
    width: int = 64
