"""Local search on the order in which a greedy rule places the buffers."""

import time

from loomax.memory.planner.twin.greedy import Greedy, place_in_order
from loomax.memory.planner.twin.problem import Problem
from loomax.memory.planner.twin.random import SplitMix


def improve_order(
    problem: Problem, plan: Greedy, goal: int, moves: int, seed: int, end: float
) -> Greedy:
    """Moves a buffer of the peak, or one that lives with it, to an earlier place in the order.

    Keeps what is not worse; ends after `moves`, when the peak is at most `goal`, or when the clock
    shows `end`.
    """
    if moves <= 0 or not plan.order:
        return plan
    random = SplitMix(seed)
    positions = positions_at_peak(problem, plan)
    for _ in range(moves):
        if plan.peak <= goal or not positions:
            break
        source = positions[random.below(len(positions))]
        target = random.below(source)
        order = list(plan.order)
        order.insert(target, order.pop(source))
        offsets = place_in_order(problem, order, plan.fit, end)
        if not offsets or time.monotonic() > end:
            break
        peak = problem.peak(offsets)
        if peak <= plan.peak:
            plan = Greedy(tuple(order), plan.fit, offsets, peak)
            positions = positions_at_peak(problem, plan)
    return plan


def positions_at_peak(problem: Problem, plan: Greedy) -> list[int]:
    """Where in the order the buffers stand that reach the peak, and those that live with them."""
    tops = [
        buffer
        for buffer in range(problem.count)
        if plan.offsets[buffer] + problem.size[buffer] == plan.peak
    ]
    return [
        at
        for at in range(1, problem.count)
        if any(problem.meet(top, plan.order[at]) for top in tops)
    ]
