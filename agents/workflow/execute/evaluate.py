"""Steps computed on arrays, or on tracers of one XLA program."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

from loomax.agents.workflow.execute.record import CallStep, LoopStep, Step, Var

Values = dict[Var, Any]
Caller = Callable[[CallStep, Values], None]


class StageError(RuntimeError):
    """A stage that failed, by name; its cause is the stage's own error."""


def value_of(leaf: Any, values: Values) -> Any:
    """The value of a variable; a constant is its own."""
    return values[leaf] if isinstance(leaf, Var) else leaf


def arguments(step: CallStep, values: Values) -> tuple[PyTree, ...]:
    """What a call is called with."""
    return jax.tree.map(lambda leaf: value_of(leaf, values), step.args)


def compute(step: CallStep, values: Values, mesh: Mesh | None = None) -> None:
    """Calls the stage and keeps its output in `values`.

    Args:
        mesh: that the values lie on, if they are tracers.

    Raises:
        StageError: the stage raised something.
    """
    try:
        output = step.stage.placed(mesh)(*arguments(step, values))
    except Exception as error:
        raise StageError(f"stage {step.name!r} failed: {error}") from error
    values.update(zip(step.outs, jax.tree.leaves(output), strict=True))


def fused(steps: tuple[Step, ...], values: Values, mesh: Mesh) -> None:
    """Computes steps as parts of one XLA program on a mesh; loops become `lax.scan`."""
    for step in steps:
        if isinstance(step, CallStep):
            compute(step, values, mesh)
        else:
            _scan(step, values, mesh)


def _scan(step: LoopStep, values: Values, mesh: Mesh) -> None:
    def body(carry, _):
        inner = {**values, **dict(zip(step.inside, carry, strict=True))}
        fused(step.body, inner, mesh)
        return tuple(value_of(leaf, inner) for leaf in step.after), None

    carry = tuple(jax.numpy.asarray(value_of(leaf, values)) for leaf in step.carry)
    carry, _ = jax.lax.scan(body, carry, length=step.rounds)
    values.update(zip(step.outs, carry, strict=True))


def one_by_one(steps: tuple[Step, ...], values: Values, call: Caller) -> None:
    """Computes steps with a program for each call; loops turn on the host."""
    for step in steps:
        if isinstance(step, CallStep):
            call(step, values)
            continue
        carry = enter(step, values)
        for _ in range(step.rounds):
            carry = turn(step, carry, values, call)
        values.update(zip(step.outs, carry, strict=True))


def enter(step: LoopStep, values: Values) -> tuple[Any, ...]:
    """The carry before the first round."""
    return tuple(value_of(leaf, values) for leaf in step.carry)


def turn(step: LoopStep, carry: tuple, values: Values, call: Caller) -> tuple[Any, ...]:
    """The carry after one more round."""
    inner = {**values, **dict(zip(step.inside, carry, strict=True))}
    one_by_one(step.body, inner, call)
    return tuple(value_of(leaf, inner) for leaf in step.after)
