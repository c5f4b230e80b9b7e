"""The inverse of unit lower triangular matrices by matrix products alone.

Back-substitution is a loop that neither a TPU nor a thread pool likes, and the product form
(I + N)(I + N^2)(I + N^4)... of a nilpotent N cancels badly in float32. Doubling is exact block
elimination: with the two halves of a diagonal block inverted, the corner is -X22 L21 X11.

Shape letters: L rows, a power of two.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@jax.custom_vjp
def unit_lower_inverse(strict: Float[Array, "*B L L"]) -> Float[Array, "*B L L"]:
    """(I + strict)^-1 for a strictly lower triangular matrix; log2(L) rounds of two products.

    Raises:
        ValueError: L is not a power of two.
    """
    size = strict.shape[-1]
    if size & (size - 1):
        raise ValueError(f"{size} rows: the inverse by doubling needs a power of two")
    rows = np.arange(size)
    inverse = jnp.broadcast_to(jnp.eye(size, dtype=strict.dtype), strict.shape)
    half = 1
    while half < size:
        block, side = rows // (2 * half), rows // half % 2
        corner = (block[:, None] == block[None]) & (side[:, None] == 1) & (side[None] == 0)
        inverse = inverse - inverse @ jnp.where(corner, strict, 0) @ inverse
        half *= 2
    return inverse


def _forward(strict):
    inverse = unit_lower_inverse(strict)
    return inverse, inverse


def _backward(inverse, grad):
    flipped = inverse.swapaxes(-1, -2)
    return (jnp.tril(-flipped @ grad @ flipped, -1),)


unit_lower_inverse.defvjp(_forward, _backward)
