"""What each process does for all: its share of the rows, and where it stands in the data."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding


def row_share(sharding: Sharding, rows: int) -> tuple[int, int]:
    """This process's share of a batch's rows: its number, and how many there are.

    Raises:
        ValueError: see `number_shares`.
    """
    owned: dict[int, set[int]] = {}
    for device, index in sharding.devices_indices_map((rows,)).items():
        owned.setdefault(device.process_index, set()).add(index[0].indices(rows)[0])
    return number_shares(owned, jax.process_index())


def number_shares(owned: Mapping[int, Collection[int]], process: int) -> tuple[int, int]:
    """Number of a process's share, and of all shares.

    Processes that hold the same rows (they split these along their length) have one share.

    Args:
        owned: where the rows of each process begin.

    Raises:
        ValueError: two processes have some rows in common and others not.
    """
    shares = sorted({tuple(sorted(starts)) for starts in owned.values()})
    if sum(map(len, shares)) != len(set().union(*shares)):
        raise ValueError(
            "processes have some of their rows in common and others not: change the mesh so that "
            "mesh.context divides the devices of a process, or is a multiple of them"
        )
    return shares.index(tuple(sorted(owned[process]))), len(shares)


def gather(value: Any) -> list[Any]:
    """The JSON values of all processes, in their order."""
    if jax.process_count() == 1:
        return [value]
    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(raw.size))
    padded = np.pad(raw, (0, int(sizes.max()) - raw.size))
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def merge(states: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One mapping of what all processes have; where two have the same name, they agree."""
    return {name: value for state in states for name, value in state.items()}


def own_rows(sharding: Sharding, rows: int) -> list[int]:
    """Numbers of the rows of a batch that this process's devices hold, in order."""
    here = jax.process_index()
    ranges = {
        index[0].indices(rows)
        for device, index in sharding.devices_indices_map((rows,)).items()
        if device.process_index == here
    }
    return [row for span in sorted(ranges) for row in range(*span)]
