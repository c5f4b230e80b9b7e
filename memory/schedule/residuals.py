"""Which intermediate values of a block are worth keeping for its backward pass.

Keeping a value saves the arithmetic that leads to it and to nothing else that is kept. Values are
taken one after another, each time the one that saves most floating-point operations a byte.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from loomax.memory.schedule.held import array_bytes
from loomax.runtime.flops import equation_flops

# The names of values are this and their number.
PREFIX = "loomax residual "
CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint")


@dataclass(frozen=True)
class Residual:
    """A value that can be kept.

    Args:
        index: its number in the order in which the block computes.
        bytes: its size.
        flops: floating-point operations that keeping it saves, given all that rank before it.
    """

    index: int
    bytes: int
    flops: float


def named(block: Callable[..., Any], chosen: Sequence[int] | None = None) -> Callable[..., Any]:
    """`block`, with a `checkpoint_name` on the values with these numbers (None: on all)."""
    wanted = None if chosen is None else frozenset(chosen)

    def run(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))

        def flat(*values: Any) -> Any:
            args, kwargs = tree.unflatten(values)
            return block(*args, **kwargs)

        jaxpr, shape = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        results = _Walk(wanted).run(jaxpr.jaxpr, jaxpr.consts, leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return run


class _Walk:
    """Evaluates a jaxpr, functions that it calls included, and names values on the way."""

    def __init__(self, wanted: frozenset[int] | None):
        self.wanted, self.count = wanted, 0

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def value(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            given = [value(atom) for atom in equation.invars]
            inner = _called(equation)
            if inner is not None:
                results = self.run(inner.jaxpr, inner.consts, given)
            else:
                results = [self._name(result) for result in _evaluate(equation, given, jaxpr)]
            known.update(zip(equation.outvars, results, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def _name(self, value: Any) -> Any:
        if getattr(value, "size", 0) <= 1 or not jax.dtypes.issubdtype(value.dtype, np.inexact):
            return value
        index, self.count = self.count, self.count + 1
        if self.wanted is not None and index not in self.wanted:
            return value
        return checkpoint_name(value, f"{PREFIX}{index}")


def _evaluate(equation: Any, values: Sequence[Any], whole: Jaxpr) -> list[Any]:
    """Results of one equation of a jaxpr, with its place in the source."""
    pairs = zip(equation.invars, values, strict=True)
    inputs = {atom: value for atom, value in pairs if not isinstance(atom, Literal)}
    alone = Jaxpr(
        (), list(inputs), equation.outvars, [equation], equation.effects, whole.debug_info
    )
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*inputs.values())


def _called(equation: Any) -> ClosedJaxpr | None:
    if equation.primitive.name not in CALLS:
        return None
    inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
    return ClosedJaxpr(inner, ()) if isinstance(inner, Jaxpr) else inner


def ranked(
    block: Callable[..., Any], args: Sequence[Any], kwargs: Any = None, most: int = 32
) -> list[Residual]:
    """The block's values in the order in which they should be kept.

    Args:
        args, kwargs: arrays, or abstract ones.
        most: how many are wanted.
    """
    every, kwargs = named(block), kwargs or {}
    leaves, tree = jax.tree.flatten((tuple(args), kwargs))

    def forward(*values: Any) -> Any:
        args, kwargs = tree.unflatten(values)
        return jax.vjp(lambda a, k: every(*a, **k), args, kwargs)

    jaxpr, shape = jax.make_jaxpr(forward, return_shape=True)(*leaves)
    outputs = len(jax.tree.leaves(shape[0]))
    return _rank(_Graph(jaxpr.jaxpr), jaxpr.jaxpr.outvars[outputs:], most)


class _Graph:
    """Equations of a forward pass: what each costs, needs and gives."""

    def __init__(self, jaxpr: Jaxpr):
        self.equations = jaxpr.eqns
        self.cost = [equation_flops(equation) for equation in jaxpr.eqns]
        self.maker = {
            variable: at for at, equation in enumerate(jaxpr.eqns) for variable in equation.outvars
        }
        self.named = {
            int(equation.params["name"].removeprefix(PREFIX)): at
            for at, equation in enumerate(jaxpr.eqns)
            if str(equation.params.get("name", "")).startswith(PREFIX)
        }

        self.inputs = [
            [self.maker[v] for v in equation.invars if _is_made(v, self.maker)]
            for equation in jaxpr.eqns
        ]

    def needed(self, wanted: Sequence[Any], kept: set[int]) -> set[int]:
        """Equations that make the wanted values once more from what is kept."""
        waiting = [self.maker[v] for v in wanted if _is_made(v, self.maker)]
        seen: set[int] = set()
        while waiting:
            at = waiting.pop()
            if at not in seen and at not in kept:
                seen.add(at)
                waiting += self.inputs[at]
        return seen

    def work(self, equations: set[int]) -> float:
        """Operations of some equations."""
        return sum(self.cost[at] for at in equations)


def _is_made(variable: Any, maker: dict[Any, int]) -> bool:
    return not isinstance(variable, Literal) and variable in maker


def _rank(graph: _Graph, wanted: Sequence[Any], most: int) -> list[Residual]:
    kept: set[int] = set()
    left, found = dict(graph.named), []
    needed = graph.needed(wanted, kept)
    while left and len(found) < most:
        tries, work = [], graph.work(needed)
        for index, at in left.items():
            if at not in needed:
                continue
            size = array_bytes(graph.equations[at].outvars[0].aval)
            saved = work - graph.work(graph.needed(wanted, kept | {at}))
            tries.append((saved / max(size, 1), -index, saved, size))
        density, minus, saved, size = max(tries, default=(0.0, 0, 0.0, 0))
        if density <= 0:
            break
        kept.add(left.pop(-minus))
        needed = graph.needed(wanted, kept)
        found.append(Residual(-minus, size, saved))
    return found
