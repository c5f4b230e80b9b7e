"""Parameters by the names of their axes: how they are drawn, and how they are cut to a subnet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from loomax.models.initialise import Rngs, normal

KERNEL = "kernel"


@dataclass(frozen=True)
class Leaf:
    """One parameter of an operator.

    Args:
        axes: for each axis the field of the operator's sizes, or a fixed length.
        fan: the axes (numbers) that are summed over; N(0, 1 / their product). () for a constant.
        fill: the constant.
    """

    axes: tuple[str | int, ...]
    fan: tuple[int, ...] = ()
    fill: float = 0.0


Leaves = Mapping[str, Leaf]


def shape_of(leaf: Leaf, sizes: Any) -> tuple[int, ...]:
    """The parameter's shape at some sizes."""
    return tuple(axis if isinstance(axis, int) else getattr(sizes, axis) for axis in leaf.axes)


def draw(leaves: Leaves, sizes: Any, rngs: Rngs, layers: int | None = None) -> dict[str, Array]:
    """Initial parameters at some sizes; with `layers`, that many of each, stacked on axis 0."""
    drawn = {}
    for name, leaf in leaves.items():
        shape = shape_of(leaf, sizes)
        stacked = shape if layers is None else (layers, *shape)
        if leaf.fan:
            std = math.prod(shape[axis] for axis in leaf.fan) ** -0.5
            drawn[name] = normal(rngs, stacked, std)
        else:
            drawn[name] = jnp.full(stacked, leaf.fill, jnp.float32)
    return drawn


def cut(leaves: Leaves, parameters: Mapping[str, Array], sizes: Any) -> dict[str, Array]:
    """Parameters at smaller sizes: the middle of kernels, the start of all other axes."""
    found = {}
    for name, value in parameters.items():
        pairs = zip(leaves[name].axes, value.shape, strict=True)
        found[name] = value[tuple(_part(axis, length, sizes) for axis, length in pairs)]
    return found


def _part(axis: str | int, length: int, sizes: Any) -> slice:
    if isinstance(axis, int):
        return slice(None)
    size = getattr(sizes, axis)
    start = (length - size) // 2 if axis == KERNEL else 0
    return slice(start, start + size)
