"""Arrays moved between groups of devices, from device to device.

`jax.device_put` goes through host memory where two shardings cut an array differently (observed
in JAX 0.10.2), and makes the host wait. Here each target device gets the boxes that it needs.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array

from loomax.agents.workflow.execute.deferred import settled
from loomax.agents.workflow.execute.swap import on_host

Box = tuple[tuple[int, int], ...]


def move(x: Any, sharding: NamedSharding) -> Array:
    """The array under a sharding; itself where it has it already."""
    x = settled(x)
    if on_host(x):
        return _from_host(x, sharding)
    if x.sharding.is_equivalent_to(sharding, x.ndim):
        return jax.device_put(x, sharding)
    if x.sharding.device_set == sharding.device_set:
        return _reshard(sharding)(x)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(jax.random.clone(x))
        return jax.random.wrap_key_data(move(data, sharding), impl=jax.random.key_impl(x))
    target = sharding.devices_indices_map(x.shape)
    if set(_boxes(target, x.shape)) <= set(
        _boxes(x.sharding.devices_indices_map(x.shape), x.shape)
    ):
        return jax.device_put(x, sharding)
    shards = {box_of(shard.index, x.shape): shard.data for shard in x.addressable_shards}
    pieces = [_gather(shards, box_of(index, x.shape), device) for device, index in target.items()]
    if any(piece is None for piece in pieces):
        return jax.device_put(x, sharding)
    return jax.make_array_from_single_device_arrays(x.shape, sharding, pieces)


def _from_host(x: Any, sharding: NamedSharding) -> Array:
    """From NumPy, or from a host memory kind by way of the devices that it belongs to."""
    if isinstance(x, jax.Array):
        return move(jax.device_put(x, x.sharding.with_memory_kind("device")), sharding)
    return jax.device_put(x, sharding)


def _reshard(sharding: NamedSharding) -> Any:
    """A program that changes how an array lies on the same devices."""
    return jax.jit(_same, out_shardings=sharding)


def _same(x: Array) -> Array:
    return x


def box_of(index: tuple[slice, ...], shape: tuple[int, ...]) -> Box:
    """Where a shard begins and ends along each axis."""
    return tuple(cut.indices(length)[:2] for cut, length in zip(index, shape, strict=True))


def _boxes(indices: Any, shape: tuple[int, ...]) -> list[Box]:
    return [box_of(index, shape) for index in indices.values()]


def _gather(shards: dict[Box, Array], wanted: Box, device: jax.Device) -> Array | None:
    """A box on a device, from all shards that hold some of it; None if cut along two axes."""
    found: dict[Box, Array] = {}
    for box, data in shards.items():
        both = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, wanted, strict=True))
        if all(a < b for a, b in both):
            starts = tuple(a - c for (a, _), (c, _) in zip(both, box, strict=True))
            ends = tuple(b - c for (_, b), (c, _) in zip(both, box, strict=True))
            piece = data if both == box else _slice(data, starts, ends)
            found[both] = jax.device_put(piece, device)
    if len(found) == 1:
        return next(iter(found.values()))
    cut = [axis for axis, spans in enumerate(zip(*found, strict=True)) if len(set(spans)) > 1]
    if len(cut) != 1:
        return None
    return _concatenate(tuple(found[box] for box in sorted(found)), cut[0])


@partial(jax.jit, static_argnums=(1, 2))
def _slice(x: Array, starts: tuple[int, ...], ends: tuple[int, ...]) -> Array:
    return jax.lax.slice(x, starts, ends)


@partial(jax.jit, static_argnums=1)
def _concatenate(pieces: tuple[Array, ...], axis: int) -> Array:
    return jnp.concatenate(pieces, axis)
