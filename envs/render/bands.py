"""Runs a per-pixel function band after band, which also fences it off from its consumers.

XLA fuses cheap-looking elementwise code into every reader of its result; here that code is the
whole ray cast, and each fetched number would cast all rays again (ten times slower, measured). An
optimization barrier does not survive to the fusion pass on CPU. A loop does, also under `vmap`.
"""

from collections.abc import Callable

import jax
from jax import lax


def in_bands(fn: Callable, *arrays):
    """fn(*arrays) for functions of pixels ([P] arrays or pytrees of them, in and out).

    The pixels go in equal parts: as few as their number allows, at least two unless P = 1.
    """
    pixels = jax.tree.leaves(arrays)[0].shape[0]
    bands = next((n for n in range(2, pixels + 1) if pixels % n == 0), 1)
    parts = jax.tree.map(lambda x: x.reshape(bands, pixels // bands), arrays)
    out = lax.map(lambda part: fn(*part), parts)
    return jax.tree.map(lambda x: x.reshape(pixels), out)
