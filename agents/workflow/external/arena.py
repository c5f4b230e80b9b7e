"""The arrays of a pool in one block of memory, shared with its workers. Imports no JAX."""

import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from loomax.agents.workflow.external.simulator import ArraySpec

# A cache line, so that workers that write neighbouring arrays do not share one.
ALIGNMENT = 64

Fields = Mapping[str, Mapping[str, ArraySpec]]


@dataclass(frozen=True)
class Arena:
    """Arrays by group ("step", "reset" and "out") and name, `rows` rows each."""

    groups: dict[str, dict[str, np.ndarray]]

    def part(self, group: str, start: int, stop: int) -> dict[str, np.ndarray]:
        """Views of some rows."""
        return {name: x[start:stop] for name, x in self.groups[group].items()}


def size_of(fields: Fields, rows: int) -> int:
    """Bytes of an arena, 1 at least, since a shared block cannot be empty."""
    return max(1, sum(_bytes(spec, rows) for group in fields.values() for spec in group.values()))


def arena_in(buffer: memoryview, fields: Fields, rows: int) -> Arena:
    """The arrays that lie in a buffer, one behind the other."""
    at, groups = 0, {}
    for group, specs in fields.items():
        groups[group] = {}
        for name, spec in specs.items():
            shape = rows, *spec.shape
            groups[group][name] = np.ndarray(shape, spec.dtype, buffer, at)
            at += _bytes(spec, rows)
    return Arena(groups)


def create(fields: Fields, rows: int) -> SharedMemory:
    """A new shared block. Its maker unlinks it; if that is killed, Python's resource tracker does.

    Workers that `multiprocessing` starts share the tracker of their parent, so their attaching to
    the block registers nothing new and their end unlinks nothing.
    """
    name = f"loomax-{os.getpid()}-{secrets.token_hex(4)}"
    return SharedMemory(name, create=True, size=size_of(fields, rows))


def _bytes(spec: ArraySpec, rows: int) -> int:
    size = rows * math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT
