"""A plan's parts, ready to run: each works on one table of values.

The host only dispatches. What lies on disjoint devices overlaps because JAX returns before the
devices have finished; a microbatch waits for nothing but its own data and its own devices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.sharding import NamedSharding

from loomax.agents.workflow.execute.evaluate import Values, enter, one_by_one, turn
from loomax.agents.workflow.execute.layout import Layout
from loomax.agents.workflow.execute.move import move
from loomax.agents.workflow.execute.record import CallStep, LoopStep, Var
from loomax.agents.workflow.execute.split import merge, split
from loomax.agents.workflow.execute.swap import on_host, to_host

# Some part of a plan: reads and writes the table.
Node = Callable[[Values], None]


@dataclass(frozen=True)
class RunNode:
    """A program of the plan, after which some variables are needed no more."""

    work: Node
    dead: tuple[Var, ...]

    def __call__(self, values: Values) -> None:
        self.work(values)
        for var in self.dead:
            values.pop(var, None)


@dataclass(frozen=True)
class InOrder:
    """One part after the other, in order of dispatch."""

    first: Node
    second: Node

    def __call__(self, values: Values) -> None:
        self.first(values)
        self.second(values)


@dataclass(frozen=True)
class SwapNode:
    """Two parts on the same devices, of which the one that waits has its residents on the host.

    Args:
        first_residents, second_residents: and where the part first uses them.
        owned: variables whose device memory may be given back.
    """

    first: Node
    second: Node
    first_residents: dict[Var, NamedSharding]
    second_residents: dict[Var, NamedSharding]
    owned: frozenset[Var]

    def __call__(self, values: Values) -> None:
        host: Values = {}
        self._turn(values, host, self.second_residents, self.first_residents)
        self.first(values)
        self._turn(values, host, self.first_residents, self.second_residents)
        self.second(values)

    def _turn(self, values: Values, host: Values, out: dict, into: dict) -> None:
        for var in out:
            if var in values and var not in into:
                if var in host:
                    values[var] = host.pop(var)
                else:
                    values[var] = to_host(values[var], free=var in self.owned)
        for var, place in into.items():
            if var in values and on_host(values[var]):
                host[var] = values[var]
                values[var] = move(host[var], place)


@dataclass(frozen=True)
class ChunksNode:
    """A batch in microbatches.

    Args:
        cuts, merges: variables that are cut and put together, with their axis.
        dead: variables that nothing needs afterwards.
    """

    child: Node
    count: int
    cuts: dict[Var, int]
    merges: dict[Var, int]
    dead: tuple[Var, ...]

    def __call__(self, values: Values) -> None:
        whole = {var: values[var] for var in self.cuts}
        pieces = {var: split(whole[var], axis, self.count) for var, axis in self.cuts.items()}
        found: dict[Var, list[Any]] = {var: [] for var in self.merges}
        for index in range(self.count):
            values.update({var: parts[index] for var, parts in pieces.items()})
            self.child(values)
            for var in found:
                found[var].append(values.pop(var))
        values.update(whole)
        values.update({var: merge(found[var], axis) for var, axis in self.merges.items()})
        for var in self.dead:
            values.pop(var, None)


@dataclass(frozen=True)
class LoopNode:
    """A cycle whose rounds the host turns, a program for each call."""

    step: LoopStep
    programs: dict[CallStep, Node]

    def __call__(self, values: Values) -> None:
        one_by_one((self.step,), values, lambda call, inner: self.programs[call](inner))


@dataclass(frozen=True)
class RingNode:
    """A cycle whose stages have devices of their own, with parts of the batch taking turns.

    Args:
        reads: what the body needs from outside of the loop.
    """

    step: LoopStep
    programs: dict[CallStep, Node]
    layout: Layout
    turns: int
    reads: Sequence[Var] = field(default=())

    def __call__(self, values: Values) -> None:
        step, axes = self.step, self.layout.axes
        seen = [{var: values[var] for var in self.reads if var in values}]
        carries = [enter(step, values)]
        if self.turns > 1:
            seen = self._cut(self.reads, [values.get(var) for var in self.reads])
            carries = [
                tuple(part[var] for var in step.inside)
                for part in self._cut(step.inside, carries[0])
            ]
        for _ in range(step.rounds):
            for index in range(self.turns):
                carries[index] = turn(step, carries[index], seen[index], self._call)
        for column, var in enumerate(step.outs):
            parts = [carry[column] for carry in carries]
            whole = self.turns > 1 and var in axes
            values[var] = merge(parts, axes[var]) if whole else parts[0]

    def _cut(self, names: Sequence[Var], given: Sequence[Any]) -> list[Values]:
        found: list[Values] = [{} for _ in range(self.turns)]
        for var, x in zip(names, given, strict=True):
            axis = self.layout.axes.get(var)
            parts = [x] * self.turns if axis is None else split(x, axis, self.turns)
            for one, part in zip(found, parts, strict=True):
                one[var] = part
        return found

    def _call(self, step: CallStep, values: Values) -> None:
        self.programs[step](values)
