"""Checks that several configurations share. Imports no JAX."""


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
