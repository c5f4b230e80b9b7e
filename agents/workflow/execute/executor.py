"""A program that runs by a plan."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from loomax.agents.workflow.execute.build import Builder
from loomax.agents.workflow.execute.deferred import settled
from loomax.agents.workflow.execute.evaluate import Values, value_of
from loomax.agents.workflow.execute.layout import layout_of
from loomax.agents.workflow.execute.order import check_units, order_of, unit_steps
from loomax.agents.workflow.execute.record import record, variables
from loomax.agents.workflow.execute.watch import Watch
from loomax.agents.workflow.plan.tree import Chunks, Plan, Run, cost


class Executor:
    """Runs a program by a plan, with the results of calling it.

        run = Executor(program, plan, params, state, donate=(0, 1))
        params, state = run(params, state)

    A call returns when all is dispatched, and stages in the background have given their results.
    What a stage holds lies where its plan puts it: new parameters move to another stage's devices
    when that stage next needs them, and stay where they are if those are the same. Items of a batch
    are spread over a stage's devices, large residents are sliced, the rest is on all of them.

    Args:
        program: ordinary code that calls stages; see `trace`.
        plan: of this program, on at most as many devices as there are.
        inputs: its arguments, as arrays or shapes.
        devices: to run on; by default all, from the first on.
        donate: positions of inputs whose memory may be reused; they are gone after a call. Swaps
            free the device memory of donated residents only.
        watch: of the seconds that its programs take.

    Raises:
        ValueError: the plan is of another program, needs more devices, or runs a stage before
            what it needs.
        StageError: when called: a stage failed; the message names it.
    """

    def __init__(
        self,
        program: Callable,
        plan: Plan,
        *inputs: PyTree,
        devices: Sequence[jax.Device] | None = None,
        donate: tuple[int, ...] = (),
        watch: Watch | None = None,
    ):
        devices = jax.devices() if devices is None else devices
        needed = cost(plan).devices
        if needed > len(devices):
            raise ValueError(
                f"the plan needs {needed} devices, there are {len(devices)}: plan anew"
            )
        for position in donate:
            if not 0 <= position < len(inputs):
                raise ValueError(f"donate has {position}: the program has {len(inputs)} inputs")
        self._recorded = recorded = record(program, *inputs)
        units = unit_steps(recorded)
        check_units(plan, units)
        order = order_of(plan, recorded, units)
        layout = layout_of(recorded, batch_of(plan))
        made = {var for step in recorded.steps for var in step.outs}
        given = set(variables([recorded.inputs[i] for i in donate]))
        builder = Builder(units, order, layout, devices, frozenset(made | given), watch)
        self._node = builder.build(plan)
        self._host_calls = tuple(builder.host_calls)
        self.programs = {program.name: program for program in builder.programs}

    def __call__(self, *inputs: PyTree) -> Any:
        """The program's output.

        Raises:
            ValueError: inputs of another structure than those that it was made for.
            StageError: a stage failed.
        """
        leaves, tree = jax.tree.flatten(inputs)
        names, expected = jax.tree.flatten(self._recorded.inputs)
        if tree != expected:
            raise ValueError(f"the inputs are {tree}, the program was recorded for {expected}")
        for var, leaf in zip(names, leaves, strict=True):
            if var.shape != jax.numpy.shape(leaf):
                raise ValueError(
                    f"an input has shape {jax.numpy.shape(leaf)}, the program was recorded for "
                    f"{var.shape}: make another executor"
                )
        values: Values = {**self._recorded.constants, **dict(zip(names, leaves, strict=True))}
        try:
            self._node(values)
        finally:
            errors = [error for call in self._host_calls for error in call.wait()]
        if errors:
            raise errors[0]
        return jax.tree.map(lambda leaf: settled(value_of(leaf, values)), self._recorded.output)


def batch_of(plan: Plan) -> int:
    """Items of one iteration."""
    if isinstance(plan, Run):
        return plan.batch
    if isinstance(plan, Chunks):
        return plan.count * batch_of(plan.child)
    return batch_of(plan.first)
