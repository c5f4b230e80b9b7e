"""A switch whose derivative is a switch too: only the branch that runs leaves anything behind.

`jax.lax.switch` under reverse mode stores the residuals of all its branches, since the shapes of
what it returns may not depend on the index: a program of four widths then holds the activations
of all four, most of them zeros. Here the forward pass keeps the operands and what a branch marks
with `keep_for_gradient`, and the backward pass recomputes the rest of the chosen branch and pulls
back through it. A training step costs one more forward pass of that branch, less what was marked,
and no memory for the others.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Int, PyTree

_KEPT = "elastic_switch"


def elastic_switch(
    index: int | Int[Array, ""],
    branches: Sequence[Callable[..., PyTree]],
    *operands: PyTree,
    constant: tuple[int, ...] = (),
) -> PyTree:
    """`branches[index](*operands)`, differentiable in reverse mode, at the cost of one branch.

    Works under jit, scan, remat and vmap over the operands. Under vmap over the index each
    branch runs for each element, as with `jax.lax.switch`. There is no forward mode.

    Args:
        index: which branch; clamped to the branches that there are.
        branches: functions of the operands with equal results in structure, shape and dtype. What
            they close over must not be differentiated: pass it as an operand.
        operands: pytrees of arrays. Leaves that are not floating or complex have no derivative.
        constant: numbers of further operands without one: their gradient, which could not be
            dropped from inside a branch, is then not computed.

    Raises:
        ValueError: no branches.
    """
    if not branches:
        raise ValueError("elastic_switch got 0 branches: give at least 1")

    operands = jax.tree.map(jnp.asarray, operands)
    leaves, tree = jax.tree.flatten(operands)
    moves = [
        at not in constant and _is_smooth(leaf)
        for at, operand in enumerate(operands)
        for leaf in jax.tree.leaves(operand)
    ]
    smooth = [leaf if move else None for leaf, move in zip(leaves, moves, strict=True)]
    fixed = [None if move else leaf for leaf, move in zip(leaves, moves, strict=True)]
    runs = [_from_leaves(branch, tree) for branch in branches]

    @jax.custom_vjp
    def switch(index, smooth, fixed):
        return jax.lax.switch(index, runs, smooth, fixed)

    def forward(index, smooth, fixed):
        room = max(_kept_size(run, smooth, fixed) for run in runs)
        keeping = [partial(_keeping, run, room) for run in runs]
        results, kept = jax.lax.switch(index, keeping, smooth, fixed)
        return results, (index, smooth, fixed, kept)

    def backward(residuals, cotangent):
        index, smooth, fixed, kept = residuals
        # A float0 cotangent, that of an integer result, cannot enter a compiled branch.
        given = [leaf if _is_smooth(leaf) else None for leaf in jax.tree.leaves(cotangent)]
        pulls = [partial(_pull_back, run) for run in runs]
        found = jax.lax.switch(index, pulls, smooth, fixed, kept, given)
        return _nothing(index), found, jax.tree.map(_no_gradient, fixed)

    switch.defvjp(forward, backward)
    return switch(jnp.asarray(index), smooth, fixed)


def keep_for_gradient(x: Array) -> Array:
    """Marks a small floating-point value of a branch that the backward pass shall not recompute."""
    return checkpoint_name(x, _KEPT)


def _from_leaves(branch: Callable[..., PyTree], tree: Any) -> Callable[[list, list], PyTree]:
    """The branch as a function of its floating-point operands and of the others."""

    def run(smooth: list, fixed: list) -> PyTree:
        merged = [f if s is None else s for s, f in zip(smooth, fixed, strict=True)]
        return branch(*jax.tree.unflatten(tree, merged))

    return run


def _linearise(run: Callable, smooth: list, fixed: list) -> tuple[PyTree, list, Callable]:
    """Results; what was kept; and from kept values to the pull-back.

    The pull-back is a pytree whose leaves are operands and kept values. With others in their
    place nothing is left that needs the forward pass, and the compiler drops it.
    """
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT)
    recomputed = jax.checkpoint(run, policy=policy, prevent_cse=False)
    results, back = jax.vjp(lambda smooth: recomputed(smooth, fixed), smooth)
    leaves, tree = jax.tree.flatten(back)
    known = {id(leaf) for leaf in jax.tree.leaves((smooth, fixed))}
    places = [at for at, leaf in enumerate(leaves) if id(leaf) not in known]

    def restored(kept: list) -> Callable:
        filled = list(leaves)
        for at, value in zip(places, kept, strict=True):
            filled[at] = value
        return jax.tree.unflatten(tree, filled)

    return results, [leaves[at] for at in places], restored


def _kept_size(run: Callable, smooth: list, fixed: list) -> int:
    """How many values a branch keeps."""
    kept = jax.eval_shape(lambda smooth, fixed: _linearise(run, smooth, fixed)[1], smooth, fixed)
    return sum(leaf.size for leaf in kept)


def _keeping(run: Callable, room: int, smooth: list, fixed: list) -> tuple[PyTree, Array]:
    """Results, and the kept values in one vector that is as long in every branch."""
    results, kept, _ = _linearise(run, smooth, fixed)
    flat = jnp.concatenate([jnp.zeros(0), *(leaf.astype(jnp.float32).ravel() for leaf in kept)])
    return results, jnp.pad(flat, (0, room - flat.size))


def _pull_back(run: Callable, smooth: list, fixed: list, kept: Array, given: list) -> list:
    """The gradient towards the floating-point operands."""
    results, shapes, restored = _linearise(run, smooth, fixed)
    values, start = [], 0
    for leaf in shapes:
        values.append(kept[start : start + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        start += leaf.size
    zeros = [
        _nothing(r) if g is None else g
        for r, g in zip(jax.tree.leaves(results), given, strict=True)
    ]
    cotangent = jax.tree.unflatten(jax.tree.structure(results), zeros)
    return restored(values)(cotangent)[0]


def _is_smooth(leaf: Any) -> bool:
    # Under jit a constant among the residuals may come back as a Python number.
    return jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.inexact)


def _no_gradient(leaf: Any) -> Any:
    """The cotangent of an operand whose derivative is not asked for."""
    return jnp.zeros_like(leaf) if _is_smooth(leaf) else _nothing(leaf)


def _nothing(leaf: Any) -> np.ndarray:
    """The cotangent of a leaf without a derivative."""
    return np.zeros(np.shape(leaf), jax.dtypes.float0)
