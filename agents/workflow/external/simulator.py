"""What a simulator is, and the arrays that it takes and gives. Imports no JAX."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ArraySpec:
    """One row of an array.

    Args:
        shape: without the batch.
        dtype: by NumPy's name, of a fixed size: "float32", "uint8", "bool", ...

    Raises:
        ValueError: a size below 0, or a type that has no fixed size or is unknown.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "float32"

    def __post_init__(self):
        if any(size < 0 for size in self.shape):
            raise ValueError(f"shape is {self.shape}: sizes are 0 or more")
        try:
            kind = np.dtype(self.dtype).kind
        except TypeError as error:
            raise ValueError(f"dtype {self.dtype!r} is none of NumPy's: {error}") from error
        if kind not in "biufc":
            raise ValueError(f"dtype {self.dtype!r} holds no numbers: use float32, uint8, bool")


@runtime_checkable
class Simulator(Protocol):
    """A user's simulator, for a fixed number of rows.

    The arrays that it gets are its own only until it returns; it copies what it keeps.
    """

    def step(self, arrays: Arrays) -> Arrays:
        """The outputs of one step, a row for every row of the inputs."""


@runtime_checkable
class Resettable(Protocol):
    """A simulator that can start anew."""

    def reset(self, arrays: Arrays) -> Arrays:
        """The outputs at the start. The state afterwards depends on nothing but `arrays`."""


@runtime_checkable
class Snapshots(Protocol):
    """A simulator whose state can be kept."""

    def snapshot(self) -> Any:
        """All of its state, as something that can be pickled."""

    def restore(self, state: Any) -> None:
        """Goes on from a state that `snapshot` gave."""


# Makes the simulator of an index, in the worker.
Factory = Callable[[int], Any]
