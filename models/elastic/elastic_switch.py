"""A switch whose derivative is a switch too: only the branch that runs leaves anything behind.

`jax.lax.switch` under reverse mode stores the residuals of all its branches, since the shapes of
what it returns may not depend on the index: a program of four widths then holds the activations
of all four, most of them zeros. Here the forward pass keeps the operands only, and the backward
pass recomputes the chosen branch and pulls back through it. A training step costs one more
forward pass of that branch, and no memory for the others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree


def elastic_switch(
    index: int | Int[Array, ""], branches: Sequence[Callable[..., PyTree]], *operands: PyTree
) -> PyTree:
    """`branches[index](*operands)`, differentiable in reverse mode, at the cost of one branch.

    Works under jit, scan, remat and vmap over the operands. Under vmap over the index each
    branch runs for each element, as with `jax.lax.switch`. There is no forward mode.

    Args:
        index: which branch; clamped to the branches that there are.
        branches: functions of the operands with equal results in structure, shape and dtype. What
            they close over must not be differentiated: pass it as an operand.
        operands: pytrees of arrays. Leaves that are not floating or complex have no derivative.

    Raises:
        ValueError: no branches.
    """
    if not branches:
        raise ValueError("elastic_switch got 0 branches: give at least 1")

    @jax.custom_vjp
    def switch(index, operands):
        return jax.lax.switch(index, branches, *operands)

    def forward(index, operands):
        return switch(index, operands), (index, operands)

    def backward(residuals, cotangent):
        index, operands = residuals
        leaves, tree = jax.tree.flatten(operands)
        smooth = [leaf if _is_smooth(leaf) else None for leaf in leaves]
        fixed = [None if _is_smooth(leaf) else leaf for leaf in leaves]
        # A float0 cotangent, that of an integer result, cannot enter a compiled branch.
        given = [leaf if _is_smooth(leaf) else None for leaf in jax.tree.leaves(cotangent)]
        pulls = [_pull_back(branch, tree) for branch in branches]
        found = jax.lax.switch(index, pulls, smooth, fixed, given)
        full = [
            _nothing(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, found, strict=True)
        ]
        return _nothing(index), jax.tree.unflatten(tree, full)

    switch.defvjp(forward, backward)
    operands = jax.tree.map(jnp.asarray, operands)
    return switch(jnp.asarray(index), operands)


def _pull_back(branch: Callable[..., PyTree], tree: Any) -> Callable[..., list]:
    """The derivative of one branch, computed from the operands alone."""

    def pull(smooth: list, fixed: list, given: list) -> list:
        def run(smooth):
            merged = [f if s is None else s for s, f in zip(smooth, fixed, strict=True)]
            return jax.tree.leaves(branch(*jax.tree.unflatten(tree, merged)))

        results, back = jax.vjp(run, smooth)
        zeros = [_nothing(r) if g is None else g for r, g in zip(results, given, strict=True)]
        return back(zeros)[0]

    return pull


def _is_smooth(leaf: Any) -> bool:
    # Under jit a constant among the residuals may come back as a Python number.
    return jnp.issubdtype(jax.dtypes.result_type(leaf), jnp.inexact)


def _nothing(leaf: Any) -> np.ndarray:
    """The cotangent of a leaf without a derivative."""
    return np.zeros(np.shape(leaf), jax.dtypes.float0)
