"""The programs of a plan in the order in which they are dispatched, and who needs what when."""

from collections.abc import Iterable
from dataclasses import dataclass

from loomax.agents.workflow.execute.record import (
    LoopStep,
    Recorded,
    Step,
    Var,
    calls_of,
    reads_of,
    variables,
)
from loomax.agents.workflow.plan.tree import Plan, Run, runs


def unit_steps(recorded: Recorded) -> dict[str, Step]:
    """The steps of a program by the names that planning has for them."""
    return {"+".join(call.name for call in calls_of((step,))): step for step in recorded.steps}


def steps_of(run: Run, units: dict[str, Step]) -> tuple[Step, ...]:
    """The steps of a run, in its order."""
    return tuple(units[name] for name in run.units)


def check_units(plan: Plan, units: dict[str, Step]) -> None:
    """Checks that a plan runs every step of a program once.

    Raises:
        ValueError: it does not, or it puts a loop on disjoint devices that is none.
    """
    planned = [name for run in runs(plan) for name in run.units]
    if sorted(planned) != sorted(units):
        raise ValueError(
            f"the plan runs {', '.join(sorted(planned))}; the program has "
            f"{', '.join(sorted(units))}: plan this program, and let the stages of a loop feed "
            "each other, or they are planned apart"
        )
    for run in runs(plan):
        if run.ring is not None and not isinstance(units[run.units[0]], LoopStep):
            raise ValueError(f"the plan has a ring for {run.units[0]!r}, which is no loop")


@dataclass(frozen=True)
class Order:
    """When variables are made and needed; runs are numbered as they are dispatched.

    Args:
        made: by which run.
        last: that reads it.
        outputs: of the program.
    """

    made: dict[Var, int]
    last: dict[Var, int]
    outputs: frozenset[Var]

    def wanted(self, made: Iterable[Var], until: int) -> tuple[Var, ...]:
        """Those of `made` that runs after `until`, or the caller, will read."""
        return tuple(v for v in made if v in self.outputs or self.last.get(v, -1) > until)

    def dead(self, seen: Iterable[Var], until: int) -> tuple[Var, ...]:
        """Those of `seen` that nothing reads after the run `until`."""
        return tuple(v for v in seen if v not in self.outputs and self.last.get(v, -1) <= until)


def order_of(plan: Plan, recorded: Recorded, units: dict[str, Step]) -> Order:
    """The order of a plan.

    Raises:
        ValueError: a program runs before one that it needs something of.
    """
    ready = {*variables(recorded.inputs), *recorded.constants}
    made: dict[Var, int] = {}
    last: dict[Var, int] = {}
    for index, run in enumerate(runs(plan)):
        for step in steps_of(run, units):
            for var in reads_of(step):
                if var not in ready:
                    raise ValueError(
                        f"the plan runs {'+'.join(run.units)!r} before {_maker(var, units)!r}, "
                        "whose output it holds: plan this program"
                    )
                last[var] = index
            ready |= set(step.outs)
            made.update(dict.fromkeys(step.outs, index))
    return Order(made, last, frozenset(variables(recorded.output)))


def _maker(var: Var, units: dict[str, Step]) -> str:
    return next(name for name, step in units.items() if var in step.outs)


def reads_of_run(steps: tuple[Step, ...]) -> tuple[Var, ...]:
    """What a run needs that it does not make."""
    made = {var for step in steps for var in step.outs}
    found = [var for step in steps for var in reads_of(step) if var not in made]
    return tuple(dict.fromkeys(found))


def reads_of_body(step: LoopStep) -> tuple[Var, ...]:
    """What the rounds of a loop need from outside of it."""
    made = {*step.inside, *(var for inner in step.body for var in inner.outs)}
    found = [*(var for inner in step.body for var in reads_of(inner)), *variables(step.after)]
    return tuple(var for var in dict.fromkeys(found) if var not in made)


def residents_of(steps: tuple[Step, ...]) -> tuple[Var, ...]:
    """What a run needs as residents of its stages."""
    held = [call.args[i] for call in calls_of(steps) for i in call.stage.resident]
    read = set(reads_of_run(steps))
    return tuple(dict.fromkeys(var for var in variables(held) if var in read))
