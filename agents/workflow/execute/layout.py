"""Where arrays lie: which axis holds the items of a batch, and which devices hold which part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loomax.agents.workflow.execute.record import (
    CallStep,
    LoopStep,
    Recorded,
    Step,
    Var,
    calls_of,
    variables,
)
from loomax.runtime.axes import FSDP, REPLICA, MeshConfig
from loomax.runtime.mesh import fsdp_shardings, make_mesh


@dataclass(frozen=True)
class Layout:
    """How the variables of a program lie.

    Args:
        axes: of the variables that hold items, which axis counts them.
        residents: variables that some stage holds as a resident, or gives as its next value.
        batch: items of one iteration.
    """

    axes: dict[Var, int]
    residents: frozenset[Var]
    batch: int

    def sharding(self, var: Var, mesh: Mesh, parts: int = 1) -> NamedSharding:
        """On a mesh: items spread, large residents in slices, the rest whole.

        Args:
            parts: microbatches of an iteration, if the array holds one of them.
        """
        axis = self._spread_axis(var)
        if axis is not None and var.shape[axis] % (parts * mesh.size) == 0:
            return NamedSharding(mesh, PartitionSpec(*(None,) * axis, (REPLICA, FSDP)))
        if self.axes.get(var) is None:
            return fsdp_shardings(var.structure, mesh)
        return NamedSharding(mesh, PartitionSpec())

    def shape(self, var: Var, parts: int) -> tuple[int, ...]:
        """Of a variable, where it holds one of `parts` microbatches."""
        axis = self.axes.get(var)
        return tuple(
            length // parts if index == axis else length for index, length in enumerate(var.shape)
        )

    def _spread_axis(self, var: Var) -> int | None:
        if var in self.axes or var in self.residents:
            return self.axes.get(var)
        # What passes only stages that need the whole batch: by the look of it.
        looks = [axis for axis, length in enumerate(var.shape[:2]) if length == self.batch]
        return looks[0] if looks else None


def layout_of(recorded: Recorded, batch: int) -> Layout:
    """The layout of a program's variables.

    Items lie along the `batch_axis` of the stage that makes them, else of one that takes them.
    A loop's carry lies as its last round leaves it.

    Raises:
        ValueError: a stage takes items along one axis that another one makes along another.
    """
    links = _Links(recorded.steps)
    axes: dict[Var, int] = {}
    residents: set[Var] = set()
    calls = list(calls_of(recorded.steps))
    for call in calls:
        residents |= _residents(call)
    for made in (True, False):
        for call in calls:
            batched = [a for i, a in enumerate(call.args) if i not in call.stage.resident]
            for var in call.outs if made else variables(batched):
                axis = call.stage.batch_axis
                known = axes.setdefault(links.root(var), axis) if axis is not None else axis
                if known != axis:
                    raise ValueError(
                        f"stage {call.name!r} has its items along axis {axis} of an array that "
                        f"has them along axis {known}: give its stages one batch_axis"
                    )
    held = {links.root(var) for var in residents}
    residents |= {var for var in links.members if links.root(var) in held}
    known = {var: axes[links.root(var)] for var in links.members if links.root(var) in axes}
    return Layout(known | axes, frozenset(residents), batch)


def _residents(call: CallStep) -> set[Var]:
    """What a call holds, and the results that take its place: leaves of the same kinds in a row."""
    found: set[Var] = set()
    kinds = [(var.shape, var.dtype) for var in call.outs]
    for index in call.stage.resident:
        old = variables(call.args[index])
        wanted, length = [(var.shape, var.dtype) for var in old], len(old)
        found.update(old)
        for start in range(len(kinds) - length + 1):
            if kinds[start : start + length] == wanted:
                found.update(call.outs[start : start + length])
    return found


class _Links:
    """Which variables are one carry of a loop at different times (union-find)."""

    def __init__(self, steps: Iterable[Step]):
        self.members: dict[Var, Var] = {}
        self._add(steps)

    def root(self, var: Var) -> Var:
        while self.members.get(var, var) is not var:
            var = self.members[var]
        return var

    def _add(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, LoopStep):
                columns = zip(step.carry, step.inside, step.after, step.outs, strict=True)
                for column in columns:
                    first, *rest = variables(column)
                    self.members.setdefault(first, first)
                    for var in rest:
                        self.members.setdefault(var, var)
                        self.members[self.root(var)] = self.root(first)
                self._add(step.body)


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh that shards a batch and slices large residents over all of its devices."""
    return make_mesh(MeshConfig(), devices)
