"""Spaces by the names that configurations give them. Imports no JAX."""

from loomax.nas.space.arch import Arch
from loomax.nas.space.digits import (
    digits_debug_space,
    digits_space,
    shapes_debug_space,
    shapes_space,
)
from loomax.nas.space.elasticvit import SMALLEST, elasticvit_space
from loomax.nas.space.space import Space
from loomax.runtime.config import unknown

SPACES = {
    "digits": digits_space,
    "digits-debug": digits_debug_space,
    "shapes": shapes_space,
    "shapes-debug": shapes_debug_space,
    "elasticvit": elasticvit_space,
}
# Smallest nets by bank of MACs, where a space has more than one.
HIERARCHIES: dict[str, tuple[tuple[float, Arch], ...]] = {"elasticvit": SMALLEST}


def space_named(name: str, classes: int) -> Space:
    """The space of a configuration for a number of classes.

    Raises:
        ValueError: unknown name.
    """
    if name not in SPACES:
        raise ValueError(unknown("space", name, SPACES))
    return SPACES[name](classes)
