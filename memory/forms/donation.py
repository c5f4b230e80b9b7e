"""Which arguments a step may overwrite, seen from what it returns."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

# Structure, shapes and types of a pytree.
_Kind = tuple[Any, tuple[Any, ...]]


def donatable(
    step: Callable[..., Any], args: Sequence[Any], batch: Sequence[int] = ()
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Arguments of which the step returns a new version, and those that may be such.

    A new version has the argument's structure, with the same shapes and types, anywhere in the
    results, and no other argument looks like it. A single array is never taken for sure: a loss
    looks like a learning rate, and a prediction like the batch.

    Args:
        args: arrays or abstract ones, as the step is called with.
        batch: arguments that hold the batch; never donated.

    Returns:
        Indices that can be donated; indices of which only the caller knows.
    """
    results = jax.eval_shape(step, *args)
    kinds = {
        index: _kind(jax.eval_shape(lambda x: x, arg))
        for index, arg in enumerate(args)
        if index not in batch
    }
    sure, unsure = [], []
    taken: set[int] = set()
    # The largest first: a parameter tree within an optimiser's state is part of that state.
    for kind in sorted(set(kinds.values()), key=lambda kind: -len(kind[1])):
        if not any(math.prod(shape) > 1 for shape, _ in kind[1]):
            continue
        found = _places(results, kind, taken)
        same = [index for index, other in kinds.items() if other == kind]
        if not found:
            continue
        if len(kind[1]) > 1 and len(found) >= len(same):
            sure += same
            for place in found[: len(same)]:
                taken |= place
        else:
            unsure += same
    return tuple(sorted(sure)), tuple(sorted(unsure))


def _kind(tree: PyTree) -> _Kind:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def _places(results: PyTree, kind: _Kind, taken: set[int]) -> list[set[int]]:
    """Subtrees of the results of this kind, as the numbers of their leaves; none overlap."""
    found: list[set[int]] = []

    def visit(tree: PyTree, first: int) -> None:
        numbers = set(range(first, first + len(jax.tree.leaves(tree))))
        if _kind(tree) == kind:
            if not numbers & taken:
                found.append(numbers)
            return
        children, _ = jax.tree.flatten(tree, is_leaf=lambda x: x is not tree)
        if len(children) == 1 and children[0] is tree:
            return
        for child in children:
            visit(child, first)
            first += len(jax.tree.leaves(child))

    visit(results, 0)
    return found


def described(undecided: Sequence[int]) -> str:
    """What to ask about arguments that look like results."""
    which = ", ".join(str(index) for index in undecided)
    return (
        f"argument {which} is not donated: it looks like a result, but may be needed again: "
        "give donate where it is not"
    )
