"""The planner against all plans, and its time on a large pool."""

import time

import jax

from benchmarks._rows import Row, compare, device_name
from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import find_plan
from loomax.agents.workflow.plan.exhaustive import mismatches
from loomax.agents.workflow.plan.problem import Problem
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.workflow import Call, Edge, Workflow

DEVICES = 4096
GIB = 2**30


def rows(quick: bool) -> list[Row]:
    """Mismatches, and the seconds of a plan for five stages."""
    cases, n = (100, 1) if quick else (2000, 3)
    wrong = len(mismatches(cases))
    where, version = device_name(), jax.__version__
    first = Row(
        "workflow", "planner", "mismatches", wrong, "cases", None, None, cases, where, version
    )
    problem, name = large(), f"planner-5x{DEVICES}"
    spent = [_seconds(problem) for _ in range(n)]
    return [first, *compare("workflow", "seconds", "s", {name: spent}, name, [name])[1:]]


def large() -> Problem:
    """Two branches of five stages; each has fixed, shared and unshared costs of its own."""
    names = "generate", "reward", "reference", "critic", "train"
    calls = tuple(
        Call(name, name, (), None, batch_axis=None if name == "train" else 0) for name in names
    )
    ends = (0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)
    edges = tuple(Edge(names[a], names[b], 1e4) for a, b in ends)
    stages = {name: _stage(float(index + 1)) for index, name in enumerate(names)}
    hardware = Hardware("made up", DEVICES, 64 * GIB, 5e10, 2e10, dispatch_s=1e-4)
    workflow = Workflow(calls, edges, 2 * DEVICES)
    return problem_of(workflow, Profile("made up", stages), hardware)


def _stage(scale: float) -> StageProfile:
    def at(batch: int, n: int) -> Measurement:
        seconds = 0.01 * scale + 0.02 * scale * batch / n + 0.001 * (1 - 1 / n)
        return Measurement(batch, n, seconds, int(scale * GIB), int(batch / n * 2**24))

    return StageProfile(tuple(at(batch, n) for batch in (256, 1024) for n in (1, 16, 256)))


def _seconds(problem: Problem) -> float:
    start = time.perf_counter()
    find_plan(problem)
    return time.perf_counter() - start
