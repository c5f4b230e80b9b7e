"""Residents that wait in host memory."""

from typing import Any

import jax
import numpy as np

HOST_KINDS = ("pinned_host", "unpinned_host")


def to_host(x: Any, *, free: bool) -> Any:
    """The array in host memory: under the same sharding where the devices reach host memory.

    Else as NumPy.

    Args:
        free: give its device memory back at once.
    """
    if not isinstance(x, jax.Array) or on_host(x):
        return x
    kinds = {memory.kind for memory in next(iter(x.sharding.device_set)).addressable_memories()}
    kind = next((kind for kind in HOST_KINDS if kind in kinds), None)
    if kind is not None and kind != x.sharding.memory_kind:
        moved: Any = jax.device_put(x, x.sharding.with_memory_kind(kind), may_alias=False)
    elif jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
        return x
    else:
        # A copy, since on the CPU the array may be a view of the device's memory.
        moved = np.array(x)
    if free:
        jax.block_until_ready(moved)
        x.delete()
    return moved


def on_host(x: Any) -> bool:
    """Whether an array lies in host memory."""
    return not isinstance(x, jax.Array) or x.sharding.memory_kind in HOST_KINDS
