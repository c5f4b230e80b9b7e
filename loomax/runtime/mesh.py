"""Device meshes and shardings.  Axis names and their meaning: loomax/runtime/axes.py."""

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from loomax.runtime.axes import (
    CONTEXT,
    EXPERT,
    FSDP,
    REPLICA,
    SUBNET,
    TENSOR,
    LogicalAxes,
    MeshConfig,
)

__all__ = [
    "CONTEXT",
    "EXPERT",
    "FSDP",
    "REPLICA",
    "SUBNET",
    "TENSOR",
    "LogicalAxes",
    "MeshConfig",
    "batch_sharding",
    "constrain",
    "fsdp_shardings",
    "logical_spec",
    "make_mesh",
    "on_mesh",
    "replicated",
]


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A (replica, fsdp, context, tensor) mesh with Auto axes over `devices` (default: all of them).

    Raises:
        ValueError: the sizes do not fit the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = config.sizes(len(devices))
    names = (REPLICA, FSDP, CONTEXT, TENSOR)
    types = (AxisType.Auto,) * len(names)
    if devices[0].platform == "cpu":
        return Mesh(np.asarray(devices).reshape(shape), names, axis_types=types)
    # An axis of 64 does not lie along whole sides of 16 x 16 chips: it takes a part of one.
    placed = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(placed, names, axis_types=types)


def logical_spec(axes: LogicalAxes, *names: str | None) -> PartitionSpec:
    """The PartitionSpec of an array whose axes have these logical names (None: not sharded).

    Raises:
        ValueError: an unknown name, or two axes of the array on one mesh axis.
    """
    known = [field.name for field in dataclasses.fields(axes)]
    spec, used = [], {}
    for name in names:
        if name is not None and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown logical axis {name!r}: {hint}")
        physical = None if name is None else getattr(axes, name)
        for axis in (physical,) if isinstance(physical, str) else physical or ():
            if axis in used:
                raise ValueError(
                    f"logical axes {used[axis]!r} and {name!r} of one array both live on mesh axis "
                    f"{axis!r}: map one of them to None in LogicalAxes"
                )
            used[axis] = name
        spec.append(physical)
    return PartitionSpec(*spec)


def on_mesh(mesh: Mesh | None) -> contextlib.AbstractContextManager:
    """What is traced within this context knows the mesh that it will run on; see `constrain`."""
    if mesh is None:
        return contextlib.nullcontext()
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def constrain(x: jax.Array, *names: str | None, axes: LogicalAxes | None = None) -> jax.Array:
    """Keeps an array spread over the mesh by its logical axes where a program is traced `on_mesh`.

    Without it the compiler may prefer the layout of the parameters, gather a whole batch and split
    its features instead. Changes nothing without a mesh, where an axis does not divide, and
    inside `shard_map`, where every device has its own part already.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.manual_axes or mesh.size == 1:
        return x
    spec = logical_spec(axes or LogicalAxes(), *names)
    for length, physical in zip(x.shape, spec, strict=True):
        used = (physical,) if isinstance(physical, str) else physical or ()
        if length % math.prod(mesh.shape[axis] for axis in used):
            return x
    return jax.lax.with_sharding_constraint(x, spec)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over (replica, fsdp), everything else whole."""
    return NamedSharding(mesh, PartitionSpec((REPLICA, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def fsdp_shardings(shapes: Any, mesh: Mesh, min_bytes: int = 4 * 2**20) -> Any:
    """A sharding per leaf: the longest axis that divides goes over `fsdp`, small leaves stay whole.

    Args:
        shapes: pytree of arrays or jax.ShapeDtypeStruct.
        min_bytes: leaves below this many bytes are replicated; a gather would cost more than
            the memory that it saves.
    """
    ways = mesh.shape[FSDP]

    def one(leaf) -> NamedSharding:
        size = math.prod(leaf.shape) * leaf.dtype.itemsize
        fits = [axis for axis, length in enumerate(leaf.shape) if length and length % ways == 0]
        if ways == 1 or size < min_bytes or not fits:
            return replicated(mesh)
        longest = max(fits, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, FSDP))

    return jax.tree.map(one, shapes)
