"""What a step's arguments take, known before any compilation."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from loomax.memory.forms.judge import Program, abstract_args, trace
from loomax.runtime.target import Target

CALLS = ("jit", "pjit")


def argument_bytes(program: Program, target: Target) -> int:
    """Bytes of one device that hold arguments which the step uses; every form of it has them."""
    args = jax.tree.leaves(abstract_args(program, target))
    used = _used(trace(program, target).jaxpr.jaxpr)
    return sum(_shard_bytes(arg) for arg, needed in zip(args, used, strict=True) if needed)


def _used(jaxpr: Jaxpr, wanted: Sequence[bool] | None = None) -> list[bool]:
    """Which inputs the wanted outputs (all) need; jitted functions inside are looked into."""
    outputs = zip(jaxpr.outvars, wanted or [True] * len(jaxpr.outvars), strict=True)
    needed = {atom for atom, is_wanted in outputs if is_wanted and not isinstance(atom, Literal)}
    for equation in reversed(jaxpr.eqns):
        makes = [atom in needed for atom in equation.outvars]
        if not any(makes) and not equation.effects:
            continue
        inner = equation.params.get("jaxpr") if equation.primitive.name in CALLS else None
        inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        uses = [True] * len(equation.invars) if inner is None else _used(inner, makes)
        pairs = zip(equation.invars, uses, strict=True)
        needed |= {atom for atom, use in pairs if use and not isinstance(atom, Literal)}
    return [atom in needed for atom in jaxpr.invars]


def _shard_bytes(x: Any) -> int:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended):
        return 0
    shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(x.dtype).itemsize
