"""A program with simulators in workers, planned and then run by that plan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.execute.adaptive import AdaptiveConfig, AdaptiveExecutor
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.external.pool import Pool
from loomax.agents.workflow.external.stage import external, external_reset, rows_of
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import choose
from loomax.agents.workflow.plan.tree import runs
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.stage import Stage, loop
from loomax.agents.workflow.trace import trace
from tests.agents.workflow.external.simulators import BATCH, RESETS, Episodes, config

ROUNDS = 3
HARDWARE = Hardware("cpu", 1, 10**9, 1e9, 1e9)
WEIGHTS = jnp.asarray(np.random.default_rng(1).integers(0, 7, (3, 3)), jnp.float32)
SEEDS = jnp.arange(BATCH, dtype=jnp.uint32)

act = Stage("act", lambda params, obs: {"action": jnp.mod(obs @ params, 7)}, resident=(0,))
learn = Stage("learn", lambda w, obs: jnp.mod(w + obs.T @ obs, 7), (0,), batch_axis=None)


@pytest.fixture(scope="module", params=[4, 2])
def world(request):
    """A program, its inputs and what a plain call gives, with four or two simulators."""
    with Pool(config(Episodes, resets=RESETS, simulators=request.param)) as pool:
        begin, simulate = external_reset("begin", pool), external("simulate", pool)

        def program(params, rows, seeds):
            def turn(carry):
                rows, found = simulate(carry[0], act(params, carry[1]["obs"]))
                return rows, found

            carry = loop(turn, begin(rows, {"seed": seeds}), ROUNDS)
            return learn(params, carry[1]["obs"]), carry

        inputs = WEIGHTS, rows_of(pool), SEEDS
        yield program, inputs, jax.device_get(program(*inputs)), request.param


def profile(fixed: float, item: float) -> Profile:
    """Acting and simulating take as long as each other."""

    def stage(fixed, item):
        return StageProfile(tuple(Measurement(b, 1, fixed + item * b) for b in (12, 6, 3)))

    cycle = stage(fixed, item)
    rest = stage(0.5, 0.0)
    return Profile("cpu", {"act": cycle, "simulate": cycle, "begin": rest, "learn": rest})


def same(found, wanted):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)


def ring_of(plan):
    return next((run.ring for run in runs(plan) if run.ring), None)


def test_the_ring_runs_where_it_is_fastest(world):
    program, inputs, wanted, simulators = world
    choice = choose(problem_of(trace(program, *inputs), profile(0.0, 0.1), HARDWARE))
    ring = ring_of(choice.plan)
    assert ring is not None
    assert [(s.stage, s.devices) for s in ring.stations] == [("act", 1), ("simulate", 0)]
    # More turns overlap more, down to parts that are no longer whole simulators.
    assert ring.turns == simulators
    part = 1.2 / simulators
    assert choice.seconds == pytest.approx(1.0 + 3 * 2 * 1.2 / 2 + part)
    execute = Executor(program, choice.plan, *inputs)
    same(execute(*inputs), wanted)
    same(execute(*inputs), wanted)


def test_no_ring_where_parts_cost_as_much_as_the_whole(world):
    program, inputs, wanted, _ = world
    choice = choose(problem_of(trace(program, *inputs), profile(1.0, 0.0), HARDWARE))
    assert ring_of(choice.plan) is None
    assert choice.seconds == pytest.approx(1.0 + 3 * 2 * 1.0)
    same(Executor(program, choice.plan, *inputs)(*inputs), wanted)


def test_it_is_planned_and_watched_as_it_runs(world):
    program, inputs, wanted, _ = world
    settings = AdaptiveConfig(every=1)
    run = AdaptiveExecutor(program, profile(0.0, 0.1), HARDWARE, *inputs, config=settings)
    assert ring_of(run.plan) is not None
    for _ in range(3):
        same(run(*inputs), wanted)
