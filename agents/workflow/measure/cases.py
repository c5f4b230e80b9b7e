"""What is profiled: each stage, and each cycle as it runs, at several sizes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from loomax.agents.workflow.execute.evaluate import Values, compute, one_by_one
from loomax.agents.workflow.execute.layout import Layout, mesh_of
from loomax.agents.workflow.execute.order import reads_of_run, residents_of
from loomax.agents.workflow.execute.program import HostCall, Program
from loomax.agents.workflow.execute.record import CallStep, Recorded, Step, calls_of
from loomax.agents.workflow.execute.split import split


@dataclass(frozen=True)
class Case:
    """One stage, or cycle, at one size.

    Args:
        name: in the profile.
        parts: microbatches of an iteration; it runs on one of them.
        resident_bytes: on each device.
        io_bytes: on each device: what else it takes and gives.
    """

    name: str
    work: Program | HostCall
    step: Step
    parts: int
    batch: int
    devices: int
    resident_bytes: int
    io_bytes: int

    def inputs(self, values: Values, layout: Layout) -> Values:
        """Its share of what the program computed."""
        found = {}
        for var in reads_of_run((self.step,)):
            axis = layout.axes.get(var)
            cut = self.parts > 1 and axis is not None
            found[var] = split(values[var], axis, self.parts)[0] if cut else values[var]
        return found


def subjects(recorded: Recorded) -> dict[str, Step]:
    """The first call of every stage, and the cycles that one program can hold, by name."""
    found: dict[str, Step] = {}
    for step in recorded.steps:
        calls = list(calls_of((step,)))
        for call in calls:
            found.setdefault(call.stage.name, call)
        if len(calls) > 1 and all(call.stage.fusable for call in calls):
            found["+".join(call.stage.name for call in calls)] = step
    return found


def cases_of(
    recorded: Recorded, layout: Layout, counts: Sequence[int], devices: Sequence[jax.Device]
) -> list[Case]:
    """All stages and cycles at all sizes that they can run at.

    Args:
        counts: of microbatches.
        devices: as many as there are to run on; tried in powers of two, and all.
    """
    numbers = {len(devices), *(2**i for i in range(int(math.log2(len(devices))) + 1))}
    found = []
    for name, step in subjects(recorded).items():
        stages = [call.stage for call in calls_of((step,))]
        splits = all(stage.batch_axis is not None for stage in stages)
        multiple = math.lcm(*(stage.multiple for stage in stages))
        for parts in sorted(set(counts)) if splits else [1]:
            for number in sorted(numbers):
                whole = parts == 1 or layout.batch % (parts * multiple) == 0
                if whole and layout.batch % (parts * number) == 0:
                    found.append(_case(name, step, layout, parts, devices[:number]))
    return found


def _case(name: str, step: Step, layout: Layout, parts: int, devices: Sequence[jax.Device]) -> Case:
    mesh, reads = mesh_of(devices), reads_of_run((step,))
    work: Program | HostCall
    if isinstance(step, CallStep) and not step.stage.fusable:
        work = HostCall(step, layout, mesh, parts)
    else:
        work = Program((step,), reads, step.outs, layout, mesh, parts=parts)

    def size(variables: Any) -> int:
        return sum(
            math.prod(layout.sharding(v, mesh, parts).shard_shape(layout.shape(v, parts)))
            * v.dtype.itemsize
            for v in variables
        )

    residents = residents_of((step,))
    rest = [var for var in (*reads, *step.outs) if var not in residents]
    batch = layout.batch // parts
    return Case(name, work, step, parts, batch, len(devices), size(residents), size(rest))


def values_of(recorded: Recorded, inputs: tuple[PyTree, ...]) -> Values:
    """What every variable holds after a plain run; inside loops, in the first round.

    Args:
        inputs: arrays; zeros stand in for shapes.
    """
    given = jax.tree.map(_zeros, inputs)
    values: Values = dict(recorded.constants)
    values.update(zip(jax.tree.leaves(recorded.inputs), jax.tree.leaves(given), strict=True))
    seen: Values = dict(values)

    def call(step: CallStep, inner: Values) -> None:
        if step.stage.fusable:
            _compiled(step)(inner)
        else:
            compute(step, inner)
        for var in (*reads_of_run((step,)), *step.outs):
            seen.setdefault(var, inner[var])

    one_by_one(recorded.steps, values, call)
    return values | {var: x for var, x in seen.items() if var not in values}


def _compiled(step: CallStep) -> Callable[[Values], None]:
    reads = reads_of_run((step,))

    @jax.jit
    def run(*args):
        values: Values = dict(zip(reads, args, strict=True))
        compute(step, values)
        return tuple(values[var] for var in step.outs)

    def call(values: Values) -> None:
        values.update(zip(step.outs, run(*(values[var] for var in reads)), strict=True))

    return call


def _zeros(leaf: Any) -> Any:
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), leaf.shape)
    return jnp.zeros(leaf.shape, leaf.dtype)
