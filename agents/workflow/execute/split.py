"""A batch cut into microbatches and put together again, on the devices where it is.

Microbatch i of k holds the items i, i + k, i + 2 k, ...: each device cuts its own items, so that
nothing moves.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from loomax.agents.workflow.execute.deferred import settled


def split(x: Any, axis: int, parts: int) -> tuple[Array, ...]:
    """The microbatches of an array."""
    return _split(settled(x), axis, parts)


@partial(jax.jit, static_argnums=(1, 2))
def _split(x: Array, axis: int, parts: int) -> tuple[Array, ...]:
    cut = x.reshape(*x.shape[:axis], -1, parts, *x.shape[axis + 1 :])
    return tuple(jax.lax.index_in_dim(cut, i, axis + 1, keepdims=False) for i in range(parts))


def merge(pieces: Sequence[Any], axis: int) -> Array:
    """The array whose microbatches are given."""
    return _merge(tuple(settled(piece) for piece in pieces), axis)


@partial(jax.jit, static_argnums=1)
def _merge(pieces: tuple[Array, ...], axis: int) -> Array:
    stacked = jnp.stack(pieces, axis + 1)
    shape = pieces[0].shape
    return stacked.reshape(*shape[:axis], -1, *shape[axis + 1 :])
