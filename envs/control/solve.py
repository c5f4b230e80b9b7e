"""A small dense solver without LAPACK.

Batched LAPACK calls of XLA:CPU wait for each other on a machine with few cores; elimination in
plain array operations cannot, and at 6 x 6 it is also faster.
"""

from typing import Any

import jax.numpy as jnp


def solve_spd(matrix: Any, rhs: Any, xp: Any = jnp) -> Any:
    """Solves matrix x = rhs by Gauss-Jordan elimination without pivoting.

    Exact for symmetric positive definite matrices, whose pivots are all positive.

    Args:
        matrix: [..., n, n] symmetric positive definite.
        rhs: [..., n].

    Returns:
        x: [..., n].
    """
    size = matrix.shape[-1]
    table = xp.concatenate([matrix, rhs[..., None]], axis=-1)
    for i in range(size):
        unit = xp.eye(size, dtype=matrix.dtype)[i]
        pivot_row = table[..., i, :] / table[..., i, i][..., None]
        # Row i is replaced by the pivot row; the others lose their share of it.
        factor = table[..., :, i] - unit
        table = table - factor[..., None] * pivot_row[..., None, :]
    return table[..., -1]
