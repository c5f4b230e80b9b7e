"""Checks that several configurations share. Imports no JAX."""

import math


def at_least_one(name: str, value: int, fix: str) -> None:
    """Raises ValueError unless `value` is at least 1."""
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1 ({fix})")


def check_shared(name: str, size: int, devices: int) -> None:
    """Raises ValueError unless `size` is a positive multiple of the devices."""
    if size < 1 or size % devices:
        raise ValueError(
            f"{name} is {size}; it must be a positive multiple of the {devices} devices that "
            "share the batch"
        )


def positive(name: str, value: float, fix: str) -> None:
    """Raises ValueError unless `value` is finite and above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; it must be above 0 and finite ({fix})")


def not_negative(name: str, value: float, fix: str) -> None:
    """Raises ValueError unless `value` is finite and at least 0."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}; it must be at least 0 and finite ({fix})")


def below_one(name: str, value: float, fix: str) -> None:
    """Raises ValueError unless `value` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; it must lie in [0, 1) ({fix})")
