"""Every plan there is, without pruning: the reference for the search on small problems.

It shares the problem and the definition of a plan with `search`, and no code. Values are merged
only where they are equal in everything that a cost can depend on.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

from loomax.agents.workflow.plan.choose import find_plan
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.front import LATENCY
from loomax.agents.workflow.plan.problem import Option, Problem
from loomax.agents.workflow.plan.random_cases import Case, random_case
from loomax.agents.workflow.plan.search import Search
from loomax.agents.workflow.plan.tree import cost


def least_seconds(problem: Problem, config: PlanConfig) -> float:
    """Seconds of the fastest plan, infinite where there is none."""
    plans = _Enumeration(problem, config).all_plans(frozenset(range(len(problem.units))), 1)
    return min(plans[:, 1], default=math.inf)


class _Enumeration:
    """Costs (devices, latency, period, resident, peak) of all plans, by group and microbatch."""

    def __init__(self, problem: Problem, config: PlanConfig):
        self.problem, self.config = problem, config
        self.memo: dict[tuple[frozenset[int], int], np.ndarray] = {}

    def all_plans(self, group: frozenset[int], parts: int) -> np.ndarray:
        """Plans of a group for a batch that is one of `parts` equal parts of the whole."""
        if (group, parts) not in self.memo:
            counts = {self.problem.batch // size for size in self.config.sizes(self.problem.batch)}
            found = []
            for finer in counts:
                if finer % parts:
                    continue
                k = finer // parts
                n, first, step, resident, peak = self.outer(group, finer).T
                found.append(np.stack([n, first + (k - 1) * step, k * step, resident, peak], 1))
            self.memo[group, parts] = _distinct(np.concatenate(found))
        return self.memo[group, parts]

    def outer(self, group: frozenset[int], parts: int) -> np.ndarray:
        rows = [self.one_program(group, parts)]
        members = sorted(group)
        for mask in range(1, 2 ** len(members) - 1):
            first = frozenset(x for bit, x in enumerate(members) if mask >> bit & 1)
            second = group - first
            flows = {
                (link.source in first, link.target in first)
                for link in self.problem.links
                if {link.source, link.target} <= group
            }
            if (False, True) not in flows:
                rows += self.both(first, second, parts, (True, False) in flows)
        rows = np.concatenate(rows)
        pool = self.problem.hardware
        fits = (rows[:, 0] <= pool.devices) & (rows[:, 4] <= pool.memory_bytes)
        return _distinct(rows[fits])

    def one_program(self, group: frozenset[int], parts: int) -> np.ndarray:
        rows = []
        allowed = "fused" in self.config.modes and all(self.problem.units[x].fusable for x in group)
        options = [self.problem.options(x, self.problem.batch // parts) for x in group]
        for taken in itertools.product(*options) if allowed or len(group) == 1 else ():
            if len(group) == 1 and not self.may(next(iter(group)), taken[0]):
                continue
            together = len({o.devices for o in taken}) == 1 and not any(o.ring for o in taken)
            if together or len(group) == 1:
                seconds = sum(o.seconds for o in taken) + self.problem.hardware.dispatch_s
                resident = sum(o.resident_bytes for o in taken)
                peak = resident + max(o.working_bytes for o in taken)
                rows.append([taken[0].devices, seconds, seconds, resident, peak])
        return np.array(rows, float).reshape(-1, 5)

    def may(self, index: int, option: Option) -> bool:
        """Whether the modes allow to run a unit so; more than one stage makes a unit a cycle."""
        unit, modes = self.problem.units[index], set(self.config.modes)
        if option.ring:
            return "space" in modes and option.ring.turns in {1, *self.config.microbatches}
        fused = unit.fusable and "fused" in modes
        return not unit.parts or fused or "shared" in modes

    def both(
        self, first: frozenset[int], second: frozenset[int], parts: int, linked: bool
    ) -> list[np.ndarray]:
        a = self.all_plans(first, parts)[:, None, :]
        b = self.all_plans(second, parts)[None, :, :]
        (na, la, pa, ra, ka), (nb, lb, pb, rb, kb) = np.moveaxis(a, 2, 0), np.moveaxis(b, 2, 0)
        pool, items = self.problem.hardware, self.problem.batch // parts
        size = items * sum(
            link.bytes_per_item
            for link in self.problem.links
            if link.source in first and link.target in second
        )
        found = []
        if "shared" in self.config.modes:
            wide, time = np.maximum(na, nb), la + lb + size / pool.local_bytes_per_s
            found.append([wide, time, time, ra + rb, np.maximum(ka + rb, ra + kb)])
            time = time + (ra + rb) * 2 / pool.host_bytes_per_s
            found.append([wide, time, time, np.maximum(ra, rb), np.maximum(ka, kb)])
        if "space" in self.config.modes:
            move = pool.link_latency_s + size / pool.link_bytes_per_s if linked else 0.0
            latency = la + lb + move if linked else np.maximum(la, lb)
            period = np.maximum(np.maximum(pa, pb), move)
            found.append([na + nb, latency, period, np.maximum(ra, rb), np.maximum(ka, kb)])
        shape = a.shape[0], b.shape[1]
        return [
            np.stack([np.broadcast_to(x, shape) for x in value], -1).reshape(-1, 5)
            for value in found
        ]


def _distinct(rows: np.ndarray) -> np.ndarray:
    rows = rows[np.lexsort(rows.T)]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(1)
    return rows[new]


def mismatches(
    cases: int, seed: int = 0, draw: Callable[[np.random.Generator], Case] = random_case
) -> list[int]:
    """The random cases in which the planner's plan is not the fastest; none is right."""
    wrong = []
    for number in range(cases):
        case = draw(np.random.default_rng([seed, number]))
        problem, config = case.problem, case.config
        plan, least = find_plan(problem, config), least_seconds(case.every, config)
        found = math.inf if plan is None else cost(plan).latency_s
        # What the search believes, without the bound of a first plan, has to be true as well.
        front = Search(problem, config).front(problem.everything, problem.batch)
        believed = min(front.values[:, LATENCY], default=math.inf)
        if not all(math.isclose(x, least, rel_tol=1e-9) for x in (found, believed)):
            wrong.append(number)
    return wrong
