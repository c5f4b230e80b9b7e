"""Plans by phase: by hand, against the planner's twin, and close to the lower bound."""

import random

import pytest

from loomax.memory.lifetimes.pipeline import pipeline_trace
from loomax.memory.lifetimes.pipeline_config import BlockConfig, PipelineConfig
from loomax.memory.lifetimes.pipeline_plan import first_fit, plan_by_phase, plan_pipeline
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace
from loomax.memory.planner.config import PackConfig
from loomax.memory.planner.plan import check_plan
from loomax.memory.planner.twin.greedy import place_in_order
from loomax.memory.planner.twin.problem import make_problem


def test_a_stack_by_hand():
    trace = Trace(
        (
            Lifetime("weights", 5, 0, 9),
            Lifetime("late", 2, 1, 8, phase="F0.0 -> B0.0"),
            Lifetime("early", 3, 2, 6, phase="F0.0 -> B0.0"),
            Lifetime("temporary", 3, 6, 7, phase="B0.0 -> B0.0"),
        )
    )
    plan = plan_by_phase(trace)
    assert plan.offsets == {"weights": 0, "late": 5, "early": 7, "temporary": 7}
    assert plan.optimal and plan.peak == 10


@pytest.mark.parametrize("seed", range(5))
def test_first_fit_is_the_twins(seed):
    draw = random.Random(seed)
    births = [draw.randrange(20) for _ in range(60)]
    records = [Lifetime(str(b), draw.randint(1, 9), b, b + draw.randint(1, 9)) for b in births]
    problem = make_problem(
        [r.birth for r in records], [r.death for r in records], [r.size for r in records]
    )
    expected = place_in_order(problem, range(len(records)), "first")
    assert tuple(first_fit(records, [r.size for r in records])) == expected


@pytest.mark.parametrize("recompute", [False, True])
def test_plans_of_a_pipeline_are_valid_and_tight(recompute):
    block = BlockConfig(1, 64, 64, 2, 256)
    config = PipelineConfig(block, layers=2, stages=2, microbatches=2, recompute=recompute)
    trace = pipeline_trace(config)
    plan = plan_pipeline(trace, PackConfig(seconds=2.0, moves=20, rounds=0, gap=1e-3, threads=1))
    check_plan(trace, plan.offsets, plan.peak)
    assert plan.gap <= 0.01


def test_nothing_and_alias_groups():
    assert plan_by_phase(Trace(())).peak == 0
    with pytest.raises(ValueError, match="alias 'x'"):
        plan_by_phase(Trace((Lifetime("a", 1, 0, 1, alias="x"),)))
