"""Which residuals of a backward pass have to wait for the cotangent.

Whatever a backward pass computes without the cotangent is recomputation, and a compiler may do it
early, or not again but keep it from the forward pass. Holding back a residual holds back all that
is computed from it. It can cost a copy as large as the residual (a parameter lives on anyway), so
only those are held that hold back more than their own bytes, beyond what others do.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# Their bodies reuse their memory, and their operands are not matched one to one.
LOOPS = ("scan", "while", "cond")


def choose(residual_bytes: Sequence[int], work: Sequence[tuple[int, int]]) -> list[int]:
    """Indices of the residuals to hold back.

    Args:
        work: for every recomputed value its bytes and the residuals it is computed from (bit i:
            residual i).
    """
    held, waiting = [], list(work)
    while waiting:
        gains = [sum(b for b, mask in waiting if mask >> i & 1) for i in range(len(residual_bytes))]
        worth = [i for i, gain in enumerate(gains) if gain > residual_bytes[i]]
        if not worth:
            break
        best = max(worth, key=lambda i: (gains[i], -residual_bytes[i]))
        held.append(best)
        waiting = [(b, mask) for b, mask in waiting if not mask >> best & 1]
    return sorted(held)


def recomputed(jaxpr: ClosedJaxpr, residuals: int) -> list[tuple[int, int]]:
    """What a backward pass computes without any cotangent, as `choose` takes it.

    Args:
        jaxpr: of a function of `residuals` arrays, then cotangents.
    """
    count = len(jaxpr.jaxpr.invars)
    cotangents = sum(1 << i for i in range(residuals, count))
    found: list[tuple[int, int]] = []
    _walk(jaxpr.jaxpr, [1 << i for i in range(count)], found)
    return [(size, mask) for size, mask in found if mask and not mask & cotangents]


def array_bytes(value: Any) -> int:
    """Bytes of an array or an abstract one; those of typed keys count as none."""
    size, dtype = getattr(value, "size", 0), getattr(value, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return 0
    return int(size) * np.dtype(dtype).itemsize


def _walk(jaxpr: Jaxpr, masks: Sequence[int], found: list[tuple[int, int]]) -> list[int]:
    """Adds the bytes and sources of every value; returns the sources of the results."""
    sources = dict(zip(jaxpr.invars, masks, strict=True))

    def mask_of(atom: Any) -> int:
        return 0 if isinstance(atom, Literal) else sources.get(atom, 0)

    for equation in jaxpr.eqns:
        given = [mask_of(atom) for atom in equation.invars]
        inner = _called(equation)
        if inner is not None:
            sources.update(zip(equation.outvars, _walk(inner, given, found), strict=True))
            continue
        union = 0
        for mask in given:
            union |= mask
        for result in equation.outvars:
            sources[result] = union
            found.append((array_bytes(result.aval), union))
    return [mask_of(atom) for atom in jaxpr.outvars]


def _called(equation: Any) -> Jaxpr | None:
    """The function that an equation merely calls."""
    inner = list(_jaxprs(equation.params.values()))
    if equation.primitive.name in LOOPS or len(inner) != 1:
        return None
    same = len(inner[0].invars) == len(equation.invars)
    return inner[0] if same and len(inner[0].outvars) == len(equation.outvars) else None


def _jaxprs(values: Any) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
