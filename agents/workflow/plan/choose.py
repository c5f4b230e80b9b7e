"""The plan of a workflow, and what other ways of running it would take. Imports no JAX."""

import math
import time
from dataclasses import dataclass, replace

from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.fits import check_fits
from loomax.agents.workflow.plan.problem import Problem
from loomax.agents.workflow.plan.search import Search
from loomax.agents.workflow.plan.tree import Cost, Plan, cost

# Ways of running a workflow that other systems are built for.
FAMILIES = {
    "fused": PlanConfig(("fused",), (1,)),
    "time-shared": PlanConfig(("shared",)),
    "disaggregated": PlanConfig(("space",)),
    "hybrid-2": PlanConfig(("shared", "space"), (1, 2)),
    "hybrid": PlanConfig(("shared", "space")),
}


@dataclass(frozen=True)
class Choice:
    """A plan and its rivals.

    Args:
        plan: the fastest.
        rivals: the fastest of each family of plans, None where none of it fits.
        search_s: seconds spent on `plan`.
    """

    problem: Problem
    plan: Plan
    rivals: dict[str, Plan | None]
    search_s: float

    @property
    def cost(self) -> Cost:
        return cost(self.plan)

    @property
    def seconds(self) -> float:
        """Predicted for one iteration."""
        return self.cost.latency_s


def find_plan(problem: Problem, config: PlanConfig | None = None) -> Plan | None:
    """The fastest plan that `config` allows, None where nothing fits."""
    config = config or PlanConfig()
    # The fastest plan without microbatches is quickly found, and bounds the search for the rest.
    quick = Search(problem, replace(config, microbatches=(1,))).best()
    if len(config.sizes(problem.batch)) == 1:
        return quick
    bound = cost(quick).latency_s if quick is not None else math.inf
    return Search(problem, config, bound).best()


def choose(problem: Problem, config: PlanConfig | None = None) -> Choice:
    """The fastest plan, with the fastest of each family beside it.

    Raises:
        ValueError: a unit fits nowhere, or no plan fits within the modes that are allowed.
    """
    config = config or PlanConfig()
    check_fits(problem, config)
    start = time.perf_counter()
    plan = find_plan(problem, config)
    seconds = time.perf_counter() - start
    if plan is None:
        raise ValueError(
            f"no plan fits with the modes {', '.join(config.modes)} on "
            f"{problem.hardware.devices} devices: allow 'shared', which swaps"
        )
    rivals = {}
    for name, family in FAMILIES.items():
        counts = config.microbatches if len(family.microbatches) > 2 else family.microbatches
        rivals[name] = find_plan(problem, replace(family, microbatches=counts))
    return Choice(problem, plan, rivals, seconds)
