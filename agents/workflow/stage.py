"""Stages, and loops over them: ordinary functions that say what they are called with.

A program is plain code that calls stages. With arrays it just runs. With arguments that follow the
`Handle` protocol each call and each loop is handed to the argument instead: that is how `trace`
records a graph, and how an executor can place calls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree


@runtime_checkable
class Handle(Protocol):
    """A stand-in for arrays that is told what is done with it."""

    def call_stage(self, stage: "Stage", args: tuple) -> Any:
        """The result of a stage on `args`, one of which is this."""

    def call_loop(self, body: Callable, carry: PyTree, steps: int) -> PyTree:
        """The result of a loop whose carry holds this."""


@dataclass(frozen=True)
class Stage:
    """A pure function that is placed as one.

    Args:
        name: by which profiles and plans know it.
        fn: of arrays; what it returns depends on nothing else.
        resident: positions of the arguments that stay on the device from call to call: parameters,
            optimiser or simulator state. They are no traffic, and count into resident memory.
        batch_axis: of all other arguments and of the output; None where the stage needs the whole
            batch at once, as an optimiser step does.
        fusable: whether it may be part of a larger XLA program; False for what is not JAX.
        background: not JAX, and works elsewhere: an executor goes on while it waits for it.
        multiple: a microbatch has a multiple of so many items.
        on_mesh: `fn` for a mesh, of a stage that divides its own work over devices (`shard_map`)
            better than the compiler would.
        physics: steps MJX; programs that it is part of are compiled with `physics_options`.

    Raises:
        ValueError: an empty name, or one with `+` or `#`, which join and number stages; fusable
            work in the background; or a multiple below 1.
    """

    name: str
    fn: Callable
    resident: tuple[int, ...] = ()
    batch_axis: int | None = 0
    fusable: bool = True
    physics: bool = False
    background: bool = False
    multiple: int = 1
    on_mesh: Callable[[Mesh], Callable] | None = None

    def __post_init__(self):
        if not self.name or set(self.name) & set("+#"):
            raise ValueError(f"stage name {self.name!r}: use a word without '+' and '#'")
        if self.background and self.fusable:
            raise ValueError(f"stage {self.name!r}: what works in the background is not fusable")
        if self.multiple < 1:
            raise ValueError(f"stage {self.name!r}: multiple is {self.multiple}: give 1 or more")

    def __call__(self, *args: Any) -> Any:
        for leaf in jax.tree.leaves(args):
            if isinstance(leaf, Handle):
                return leaf.call_stage(self, args)
        return self.fn(*args)

    def placed(self, mesh: Mesh | None) -> Callable:
        """What computes it on a mesh."""
        return self.fn if mesh is None or self.on_mesh is None else self.on_mesh(mesh)


def loop(body: Callable[[PyTree], PyTree], carry: PyTree, steps: int) -> PyTree:
    """The carry after `steps` rounds of `body`, which calls stages that feed each other.

    Raises:
        ValueError: fewer than 1 step.
    """
    if steps < 1:
        raise ValueError(f"a loop of {steps} steps: give 1 or more")
    for leaf in jax.tree.leaves(carry):
        if isinstance(leaf, Handle):
            return leaf.call_loop(body, carry, steps)
    for _ in range(steps):
        carry = body(carry)
    return carry


def size_in_bytes(structure: PyTree) -> int:
    """Of arrays, or of their shapes and types."""
    return sum(int(leaf.size) * _bits(leaf.dtype) // 8 for leaf in jax.tree.leaves(structure))


def _bits(dtype: Any) -> int:
    """Of an element; typed keys count as what they hold."""
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return 8 * dtype.itemsize
    return jax.dtypes.itemsize_bits(dtype)
