"""Workloads that are profiled, planned and run by several plans.

`WORKLOAD` is the plan that was fastest in a trial of the planner's own and its rivals
(`try_plans`); `WORKLOAD-predicted` is the planner's own, whose prediction takes every stage to run
as it did alone. On simulated devices, which share the cores of one host, it does not.
"""

import statistics
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks._rows import Row, compare, device_name, seconds, take_turns
from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.execute.trial import PLANNED, try_plans
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.measure.profiler import measure
from loomax.agents.workflow.plan.choose import choose
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.report import parts, sketch
from loomax.agents.workflow.simulate import simulate
from loomax.agents.workflow.stage import Stage, loop
from loomax.agents.workflow.trace import trace
from loomax.runtime.malloc import keep_large_blocks

RIVALS = ("time-shared", "disaggregated", "hybrid-2")
WIDTH = 256
COUNTS = (1, 2, 4)


def products(count: int, w: jax.Array, x: jax.Array) -> jax.Array:
    """A stage's work: its cost is set by the number of products."""
    for _ in range(count):
        x = jnp.tanh(x @ w)
    return x


def learn(w: jax.Array, x: jax.Array) -> jax.Array:
    """Several steps on the whole batch."""
    for _ in range(4):
        w = w - 1e-3 * jax.grad(lambda w: (products(2, w, x) ** 2).mean())(w)
    return w


def workloads() -> dict[str, Callable]:
    """Programs of (parameters of two models, rows)."""
    generate = Stage("generate", partial(products, 24), resident=(0,))
    judge = Stage("judge", partial(products, 16), resident=(0,))
    act = Stage("act", partial(products, 4), resident=(0,))
    simulate = Stage("simulate", lambda x, y: products(3, jnp.eye(WIDTH), x + y))
    train = Stage("train", learn, resident=(0,), batch_axis=None)

    def language(w, v, x):
        return train(w, judge(v, generate(w, x))), v

    def embodied(w, v, x):
        return train(w, judge(v, loop(lambda x: simulate(x, act(w, x)), x, 4))), v

    return {"language": language, "embodied": embodied}


def rows(quick: bool) -> list[Row]:
    """Iteration times of all workloads, and how well they were predicted."""
    keep_large_blocks()
    found, errors = [], []
    for name, program in workloads().items():
        compared, missed = _workload(name, program, 256 if quick else 2048, 3 if quick else 9)
        found += compared
        errors += missed
    where, version, error = device_name(), jax.__version__, statistics.median(errors)
    case = ("workflow", "simulator", "error", error, "of the time", None, None)
    return [*found, Row(*case, len(errors), where, version)]


def _workload(name: str, program: Callable, batch: int, n: int) -> tuple[list[Row], list[float]]:
    keys = jax.random.split(jax.random.key(0), 3)
    square = (WIDTH, WIDTH)
    w, v = (jax.random.normal(key, square) / WIDTH**0.5 for key in keys[:2])
    inputs = w, v, jax.random.normal(keys[2], (batch, WIDTH))
    measured = measure(program, *inputs, batch=batch, microbatches=COUNTS, rounds=n)
    kind, devices = jax.devices()[0].device_kind, jax.device_count()
    hardware = Hardware(kind, devices, 2**33, 2e9, 2e9)
    problem = problem_of(trace(program, *inputs), measured.profile, hardware)
    choice = choose(problem, PlanConfig(microbatches=COUNTS))
    trial = try_plans(program, choice, *inputs, rounds=5)
    print(f"{name}: of a first trial {trial.fastest} is the fastest")
    plans = {f"{name}-predicted" if case == PLANNED else case: p for case, p in trial.plans.items()}
    work, predicted = {}, {}
    for case, plan in plans.items():
        work[case] = _iteration(Executor(program, plan, *inputs), inputs)
        predicted[case] = simulate(plan, parts=parts(choice)).seconds
        print(f"{name}: {case}: {sketch(plan)}, predicted {predicted[case]:.4g} s")
    samples = take_turns(work, n)
    middle = {case: statistics.median(times) for case, times in samples.items()}
    missed = [abs(predicted[case] / middle[case] - 1) for case in work]
    # Equal plans are one case: measured twice, the luckier one would count as another plan.
    named = {case: plan for case, plan in choice.rivals.items() if plan is not None}
    named |= {f"{name}-predicted": choice.plan, name: trial.plan}
    for case, plan in named.items():
        samples[case] = next(samples[other] for other in plans if plans[other] == plan)
    samples["best-of-all"] = samples[min(middle, key=middle.__getitem__)]
    rivals = [rival for rival in RIVALS if rival in samples]
    found = []
    for case in (name, f"{name}-predicted"):
        against = ["best-of-all", *rivals]
        found += compare("workflow", "iteration_s", "s", samples, case, against, "lower")[
            : len(against)
        ]
    return found, missed


def _iteration(execute: Executor, inputs: tuple) -> Callable[[], float]:
    """Runs one iteration after another, each with what the last one gave."""
    state = {"w": inputs[0], "v": inputs[1]}

    def run() -> float:
        spent, found = seconds(lambda: execute(state["w"], state["v"], inputs[2]))
        state["w"], state["v"] = found
        return spent

    return run
