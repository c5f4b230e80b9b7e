"""Which of several plans is fastest when it runs."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
from jaxtyping import PyTree

from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.plan.choose import Choice
from loomax.agents.workflow.plan.tree import Plan, cost

PLANNED = "planned"


@dataclass(frozen=True)
class Trial:
    """Plans that ran.

    Args:
        plans: the planner's own is `PLANNED`, its rivals have their names; equal ones ran once.
        seconds: of an iteration of each, the median.
    """

    plans: dict[str, Plan]
    seconds: dict[str, float]

    @property
    def fastest(self) -> str:
        """The name of the plan with the least seconds."""
        return min(self.seconds, key=self.seconds.__getitem__)

    @property
    def plan(self) -> Plan:
        """The fastest."""
        return self.plans[self.fastest]

    def lines(self) -> list[str]:
        """What was predicted and what was measured, fastest first."""
        width = max(map(len, self.plans))
        return [
            f"{name:<{width}}  {self.seconds[name]:.4g} s, predicted "
            f"{cost(self.plans[name]).latency_s:.4g} s"
            for name in sorted(self.plans, key=self.seconds.__getitem__)
        ]


def try_plans(
    program: Callable,
    choice: Choice,
    *inputs: PyTree,
    rounds: int = 3,
    devices: Sequence[jax.Device] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trial:
    """Runs the plan of a choice and its rivals in turns; nothing is donated.

    A profile has each stage alone. What plans lose where stages run side by side, devices that
    share a host's cores above all, only a run can tell.

    Args:
        inputs: arrays.
        rounds: iterations of each that are timed, after one that is not.
        clock: seconds.

    Raises:
        ValueError: no round; see `Executor`.
        StageError: a stage failed.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: run each plan at least once")
    plans = different({PLANNED: choice.plan, **choice.rivals})
    works = {
        name: Executor(program, plan, *inputs, devices=devices) for name, plan in plans.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = clock()
            jax.block_until_ready(work(*inputs))
            spent[name].append(clock() - start)
    return Trial(plans, {name: statistics.median(times[1:]) for name, times in spent.items()})


def different(plans: Mapping[str, Plan | None]) -> dict[str, Plan]:
    """Plans without those that are absent or equal to one before."""
    found: dict[str, Plan] = {}
    for name, plan in plans.items():
        if plan is not None and plan not in found.values():
            found[name] = plan
    return found
