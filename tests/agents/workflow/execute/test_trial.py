"""The plan that is fastest when it runs, which is not always the predicted one."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.execute.trial import PLANNED, Trial, different, try_plans
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import choose
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.tree import Run, cost
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.stage import Stage
from loomax.agents.workflow.trace import trace

X = jnp.arange(8.0)


def slow(name: str, clock: SimpleNamespace) -> Stage:
    """A stage outside of JAX that takes 1 s per call, whatever its items are."""

    def work(x):
        if isinstance(x, np.ndarray):
            clock.now += 1.0
        return x + 1

    return Stage(name, work, fusable=False)


def chosen(program):
    """Planned by a profile that takes a call to cost as much as its items do."""
    stage = StageProfile(tuple(Measurement(b, n, b / 8) for b in (1, 2, 4, 8) for n in (1, 2)))
    profile = Profile("cpu", {"first": stage, "second": stage})
    workflow = trace(program, X, batch=8)
    problem = problem_of(workflow, profile, Hardware("cpu", 2, 2**30, 1e12, 1e12))
    return choose(problem, PlanConfig(microbatches=(1, 2, 4)))


def test_a_trial_finds_what_the_profile_did_not_know():
    clock = SimpleNamespace(now=0.0)
    first, second = slow("first", clock), slow("second", clock)

    def program(x):
        return second(first(x))

    choice = chosen(program)
    trial = try_plans(program, choice, X, rounds=1, clock=lambda: clock.now)
    assert cost(choice.plan).latency_s < cost(choice.rivals["time-shared"]).latency_s
    # Of four microbatches each is a call of both; the rival makes two calls.
    assert trial.fastest == "time-shared" and trial.plan == choice.rivals["time-shared"]
    assert (trial.seconds[PLANNED], trial.seconds["time-shared"]) == (8.0, 2.0)
    np.testing.assert_array_equal(Executor(program, trial.plan, X)(X), X + 2)
    assert [line.split()[0] for line in trial.lines()][0] == "time-shared"


def test_equal_and_absent_plans_run_once():
    one, two = Run(("a",), 1, 8, 1.0, 0, 0), Run(("a",), 2, 8, 0.5, 0, 0)
    assert different({PLANNED: one, "x": None, "y": one, "z": two}) == {PLANNED: one, "z": two}
    trial = Trial({PLANNED: one, "z": two}, {PLANNED: 0.9, "z": 1.5})
    assert trial.fastest == PLANNED
    assert trial.lines() == ["planned  0.9 s, predicted 1 s", "z        1.5 s, predicted 0.5 s"]


def test_at_least_one_round():
    clock = SimpleNamespace(now=0.0)
    first, second = slow("first", clock), slow("second", clock)
    with pytest.raises(ValueError, match="rounds is 0: run each plan at least once"):
        try_plans(lambda x: second(first(x)), chosen(lambda x: second(first(x))), X, rounds=0)
