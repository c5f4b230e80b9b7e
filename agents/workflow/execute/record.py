"""A program as steps on variables: which call reads what, leaf by leaf."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, Union

import jax
from jaxtyping import PyTree

from loomax.agents.workflow.stage import Stage
from loomax.agents.workflow.trace import OUTSIDE


@dataclass(frozen=True, eq=False)
class Var:
    """An array of the program: its shape and type; no two are equal."""

    recorder: "_Recorder" = field(repr=False)
    structure: jax.ShapeDtypeStruct

    @property
    def shape(self) -> tuple[int, ...]:
        return self.structure.shape

    @property
    def dtype(self) -> Any:
        return self.structure.dtype

    def call_stage(self, stage: Stage, args: tuple) -> PyTree:
        """Records a call."""
        return self.recorder.call(stage, args)

    def call_loop(self, body: Callable, carry: PyTree, steps: int) -> PyTree:
        """Records a loop."""
        return self.recorder.loop(body, carry, steps)

    def __bool__(self) -> NoReturn:
        raise ValueError(f"{OUTSIDE} ({self.structure})")


@dataclass(frozen=True, eq=False)
class CallStep:
    """A stage's call.

    Args:
        name: the stage's, numbered as `trace` does.
        args: pytrees whose leaves are variables or scalars.
        outs: the leaves of the output.
    """

    name: str
    stage: Stage
    args: tuple
    outs: tuple[Var, ...]


@dataclass(frozen=True, eq=False)
class LoopStep:
    """Steps that repeat.

    Args:
        carry, after: leaves before the loop, and at the end of a round: variables or scalars.
        inside: the carry as the body sees it.
        outs: the carry after the last round.
    """

    body: tuple["Step", ...]
    rounds: int
    carry: tuple[Any, ...]
    inside: tuple[Var, ...]
    after: tuple[Any, ...]
    outs: tuple[Var, ...]


Step = Union[CallStep, LoopStep]  # noqa: UP007  (a forward reference)


@dataclass(frozen=True)
class Recorded:
    """A program.

    Args:
        inputs: pytrees of variables.
        constants: arrays that the program itself holds.
        output: a pytree of variables and scalars.
    """

    inputs: tuple
    constants: dict[Var, Any]
    steps: tuple[Step, ...]
    output: Any


def record(program: Callable, *inputs: PyTree) -> Recorded:
    """The steps of a program, found by running it once on shapes.

    Raises:
        ValueError: the program computes outside of its stages.
    """
    recorder = _Recorder()
    given = tuple(jax.tree.map(recorder.var, value) for value in inputs)
    try:
        output = program(*given)
    except TypeError as error:
        # Operators and JAX refuse a Var by the name of its type.
        if Var.__name__ in str(error):
            raise ValueError(f"{OUTSIDE} ({error})") from error
        raise
    output = jax.tree.map(recorder.lift, output)
    return Recorded(given, recorder.constants, tuple(recorder.steps), output)


def variables(tree: PyTree) -> list[Var]:
    """The variables among the leaves of a tree."""
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, Var)]


def calls_of(steps: tuple[Step, ...]) -> Iterator[CallStep]:
    """All calls, those of loops too, in order."""
    for step in steps:
        if isinstance(step, CallStep):
            yield step
        else:
            yield from calls_of(step.body)


def reads_of(step: Step) -> list[Var]:
    """What a step needs from outside, each once."""
    if isinstance(step, CallStep):
        return list(dict.fromkeys(variables(step.args)))
    made = set(step.inside)
    found = variables(step.carry)
    for inner in step.body:
        found += [var for var in reads_of(inner) if var not in made]
        made |= set(inner.outs)
    return list(dict.fromkeys([*found, *(v for v in variables(step.after) if v not in made)]))


@dataclass
class _Recorder:
    """Steps so far; those of a loop are collected while its body runs."""

    steps: list[Step] = field(default_factory=list)
    constants: dict[Var, Any] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)

    def var(self, leaf: Any) -> Var:
        return Var(self, _shape(leaf))

    def lift(self, leaf: Any) -> Any:
        """A variable for an array, so that it is placed and split as inputs are."""
        if isinstance(leaf, Var) or not jax.numpy.ndim(leaf):
            return leaf
        var = self.var(leaf)
        self.constants[var] = leaf
        return var

    def call(self, stage: Stage, args: tuple) -> PyTree:
        self.names[stage.name] += 1
        again = self.names[stage.name]
        name = stage.name if again == 1 else f"{stage.name}#{again}"
        args = jax.tree.map(self.lift, args)
        shapes = tuple(jax.tree.map(_shape, arg) for arg in args)
        output = jax.tree.map(self.var, jax.eval_shape(stage.fn, *shapes))
        self.steps.append(CallStep(name, stage, args, tuple(jax.tree.leaves(output))))
        return output

    def loop(self, body: Callable, carry: PyTree, rounds: int) -> PyTree:
        leaves, tree = jax.tree.flatten(jax.tree.map(self.lift, carry))
        inside = tuple(self.var(leaf) for leaf in leaves)
        outer, self.steps = self.steps, []
        result = body(jax.tree.unflatten(tree, inside))
        after = jax.tree.leaves(jax.tree.map(self.lift, result))
        outs = tuple(self.var(leaf) for leaf in leaves)
        loop = LoopStep(tuple(self.steps), rounds, tuple(leaves), inside, tuple(after), outs)
        self.steps = [*outer, loop]
        return jax.tree.unflatten(tree, outs)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    if isinstance(leaf, Var | jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.ShapeDtypeStruct(jax.numpy.shape(leaf), jax.dtypes.result_type(leaf))
