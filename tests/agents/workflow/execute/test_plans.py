"""Every kind of plan gives what calling the program gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import find_plan
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.plan.tree import Chunks, Run, Shared, Space
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.trace import trace

CYCLE = "act+simulate"


def run(*units, devices=2, batch=24, ring=None):
    return Run(units, devices, batch, 1.0, 0, 0, ring)


def after(first, second, swap=False):
    return Shared(first, second, swap, 0.0, 0.0)


def beside(first, second, parallel=False):
    return Space(first, second, 0.0, parallel)


def ring(first, second, turns=2):
    stations = Station("act", first, 1.0), Station("simulate", second, 1.0)
    return Ring(stations, turns, 3)


PLANS = {
    "fused": run(CYCLE, "score", "judge", "train", devices=8),
    "fused on one": run(CYCLE, "judge", "score", "train", devices=1),
    "time-shared": after(
        after(run(CYCLE, devices=4), run("score", devices=2)),
        after(run("judge", devices=4), run("train", devices=3), swap=True),
        swap=True,
    ),
    "pipelined": beside(
        Chunks(
            beside(
                run(CYCLE, devices=4, batch=8),
                beside(run("score", devices=1, batch=8), run("judge", batch=8), parallel=True),
            ),
            3,
        ),
        run("train", devices=1),
    ),
    "ring": after(
        run(CYCLE, devices=5, ring=ring(3, 2)),
        after(run("score", "judge", devices=6), run("train", devices=2)),
    ),
    "nested": beside(
        Chunks(
            beside(
                run(CYCLE, devices=3, batch=12, ring=ring(1, 2, turns=1)),
                Chunks(
                    after(
                        run("score", devices=4, batch=4),
                        run("judge", devices=2, batch=4),
                        swap=True,
                    ),
                    3,
                ),
            ),
            2,
        ),
        run("train", devices=1),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_changes_nothing(name, workflow, inputs, same):
    wanted = workflow.program(*inputs)
    wanted = workflow.program(*wanted)
    execute = Executor(workflow.program, PLANS[name], *inputs)
    # The second iteration takes what the first one gives, wherever it lies.
    found = execute(*inputs)
    same(execute(*found), wanted)
    assert not any(x.is_deleted() for x in jax.tree.leaves(inputs))


MODES = ("shared", "space"), ("fused", "shared", "space"), ("fused", "space")


def random_plan(program, inputs, rng):
    """The best plan for made-up costs, in memory that often binds; None where nothing fits."""

    def stage():
        fixed, share = rng.random(2)
        held = int(rng.integers(1, 8)), int(rng.integers(0, 3))
        return StageProfile(
            tuple(
                Measurement(b, n, 0.1 * fixed + share * b / n * rng.uniform(0.7, 1.3), *held)
                for b in (24, 12, 8)
                for n in (1, 2, 3, 4)
            )
        )

    names = "act", "simulate", "score", "judge", "train"
    profile = Profile("cpu", {name: stage() for name in names})
    devices, memory = int(rng.integers(1, 9)), int(rng.integers(12, 30))
    pool = Hardware("cpu", devices, memory, 1e5, float(rng.choice([1e2, 1e4])))
    config = PlanConfig(MODES[int(rng.integers(len(MODES)))], (1, 2, 3, 4, 6))
    return find_plan(problem_of(trace(program, *inputs), profile, pool), config)


@pytest.mark.slow  # compiles the programs of several plans
def test_random_plans_change_nothing(workflow, inputs, same):
    wanted = workflow.program(*workflow.program(*inputs))
    plans = [random_plan(workflow.program, inputs, np.random.default_rng(i)) for i in range(12)]
    plans = [plan for plan in plans if plan is not None]
    assert len(plans) > 6
    for index, plan in enumerate(plans):
        given = jax.tree.map(jnp.copy, inputs)
        donate = tuple(range(len(inputs))) if index % 2 else ()
        execute = Executor(workflow.program, plan, *given, donate=donate)
        same(execute(*execute(*given)), wanted)
