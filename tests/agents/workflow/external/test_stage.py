"""Simulators in workers as stages: every way of running them gives the same."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.execute.evaluate import StageError
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.execute.watch import Watch
from loomax.agents.workflow.external.pool import Pool
from loomax.agents.workflow.external.simulator import ArraySpec
from loomax.agents.workflow.external.stage import external, external_reset, rows_of
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.measure.profiler import measure
from loomax.agents.workflow.plan.choose import choose
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.plan.tree import Chunks, Run, Shared, Space, runs
from loomax.agents.workflow.stage import Stage, loop
from loomax.agents.workflow.trace import trace
from tests.agents.workflow.external.simulators import (
    BATCH,
    RESETS,
    Episodes,
    config,
    double,
    faulty,
)

ROUNDS = 3
CYCLE = "act+simulate"


def act_on(params, obs):
    return {"action": jnp.mod(obs @ params, 7)}


act = Stage("act", act_on, resident=(0,))
learn = Stage("learn", lambda w, obs: jnp.mod(w + obs.T @ obs, 7), (0,), batch_axis=None)
WEIGHTS = jnp.asarray(np.random.default_rng(1).integers(0, 7, (3, 3)), jnp.float32)
SEEDS = jnp.arange(BATCH, dtype=jnp.uint32)


@pytest.fixture(scope="module")
def pool():
    with Pool(config(Episodes, resets=RESETS)) as pool:
        yield pool


def program_of(pool):
    begin, simulate = external_reset("begin", pool), external("simulate", pool)

    def program(params, rows, seeds):
        def turn(carry):
            rows, obs, _ = carry
            rows, found = simulate(rows, act(params, obs))
            return rows, found["obs"], found["steps"]

        rows, found = begin(rows, {"seed": seeds})
        carry = loop(turn, (rows, found["obs"], found["steps"]), ROUNDS)
        return learn(params, carry[1]), *carry

    return program


def run(*units, devices=1, batch=BATCH, ring=None):
    return Run(units, devices, batch, 1.0, 0, 0, ring)


def after(*plans):
    first, *rest = plans
    return Shared(first, after(*rest), False, 0.0, 0.0) if rest else first


def ring(act_devices, simulate_devices, turns=2):
    stations = Station("act", act_devices, 1.0), Station("simulate", simulate_devices, 1.0)
    devices = act_devices + simulate_devices
    return run(CYCLE, devices=devices, ring=Ring(stations, turns, ROUNDS))


PLANS = {
    "time-shared": after(run("begin"), run(CYCLE, devices=2), run("learn")),
    "pipelined": after(run("begin", devices=2), ring(2, 0), run("learn", devices=2)),
    "pipelined, four turns": after(run("begin"), ring(1, 0, 4), run("learn")),
    "space-shared": Space(after(run("begin"), ring(3, 1)), run("learn", devices=2), 0.0, False),
    "in microbatches": after(
        Chunks(after(run("begin", batch=6), run(CYCLE, batch=6)), 2), run("learn")
    ),
}


@pytest.fixture(scope="module")
def wanted(pool):
    return jax.device_get(program_of(pool)(WEIGHTS, rows_of(pool), SEEDS))


def same(found, wanted):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)


def test_a_plain_call(pool, wanted, undisturbed):
    weights, rows, obs, steps = wanted
    np.testing.assert_array_equal(rows, np.arange(BATCH))
    np.testing.assert_array_equal(steps, ROUNDS)
    # The same by hand, without workers.
    simulators = [Episodes(j) for j in range(4)]
    seeds, params = np.asarray(SEEDS), np.asarray(WEIGHTS)
    for j, simulator in enumerate(simulators):
        x = simulator.reset({"seed": seeds[j::4]})["obs"]
        for _ in range(ROUNDS):
            x = simulator.step({"action": np.mod(x @ params, 7)})["obs"]
        np.testing.assert_array_equal(obs[j::4], x)
    np.testing.assert_array_equal(weights, np.mod(params + obs.T @ obs, 7))


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_changes_nothing(name, pool, wanted):
    inputs = WEIGHTS, rows_of(pool), SEEDS
    execute = Executor(program_of(pool), PLANS[name], *inputs)
    same(execute(*inputs), wanted)
    same(execute(*inputs), wanted)


def test_in_one_program_the_calls_are_ordered_callbacks(pool, wanted):
    same(jax.jit(program_of(pool))(WEIGHTS, rows_of(pool), SEEDS), wanted)


def test_a_watch_waits_for_the_workers(pool, wanted):
    inputs, watch = (WEIGHTS, rows_of(pool), SEEDS), Watch(on=True)
    same(Executor(program_of(pool), PLANS["pipelined"], *inputs, watch=watch)(*inputs), wanted)
    seen = [(what.pieces[0].joined, what.batch, what.devices) for what, _ in watch.take()]
    turn = [("act", 6, 2), ("simulate", 6, 0)]
    assert seen == [("begin", 12, 2), *(2 * ROUNDS * turn), ("learn", 12, 2)]


def test_the_planner_never_fuses_it_and_the_executor_says_why(pool, wanted, tmp_path):
    inputs, program = (WEIGHTS, rows_of(pool), SEEDS), program_of(pool)
    profile = measure(
        program,
        *inputs,
        batch=BATCH,
        microbatches=(1, 2),
        devices=jax.devices()[:1],
        rounds=1,
        folder=tmp_path,
    ).profile
    assert profile.stages["simulate"].measurements[0].seconds > 0
    hardware = Hardware("cpu", 1, 10**9, 1e9, 1e9)
    plan = choose(problem_of(trace(program, *inputs), profile, hardware)).plan
    assert {run.units for run in runs(plan)} == {("begin",), (CYCLE,), ("learn",)}
    same(Executor(program, plan, *inputs)(*inputs), wanted)
    fused = run("begin", CYCLE, "learn")
    with pytest.raises(ValueError, match="fuses begin, .*some are not fusable: run those apart"):
        Executor(program, fused, *inputs)
    bare = after(run("begin"), ring(0, 1), run("learn"))
    with pytest.raises(ValueError, match="no device for 'act', which is JAX"):
        Executor(program, bare, *inputs)


def test_microbatches_that_cut_a_simulator(pool):
    plan = after(run("begin"), ring(1, 0, 3), run("learn"))
    inputs = WEIGHTS, rows_of(pool), SEEDS
    message = "stage 'simulate' failed: 1 of the 3 rows of simulator 0: .* divides the 4 simul"
    with pytest.raises(StageError, match=message):
        Executor(program_of(pool), plan, *inputs)(*inputs)


def test_a_worker_is_lost_while_a_plan_runs(tmp_path, wanted):
    factory = faulty(Episodes, "killed", 1, tmp_path)
    with Pool(config(factory, resets=RESETS)) as pool:
        inputs = WEIGHTS, rows_of(pool), SEEDS
        execute = Executor(program_of(pool), PLANS["pipelined"], *inputs)
        same(execute(*inputs), wanted)
        os.kill(pool.pids[1], 9)
        same(execute(*inputs), wanted)


def test_a_failing_simulator_names_its_stage(tmp_path, wanted):
    factory = faulty(Episodes, "raises", 1, tmp_path)
    with Pool(config(factory, resets=RESETS)) as pool:
        inputs = WEIGHTS, rows_of(pool), SEEDS
        execute = Executor(program_of(pool), PLANS["pipelined"], *inputs)
        with pytest.raises(StageError, match=r"'simulate': worker 0 \(pid \d+\) .* no solution"):
            execute(*inputs)
        # The next iteration begins with a reset, so it is right again.
        same(execute(*inputs), wanted)


def test_without_state_and_from_settings_alone():
    scale = external("scale", config(double, stateful=False, simulators=None))
    shift = Stage("shift", lambda x: {"action": x + 1})

    def program(x):
        return scale(shift(scale(shift(x))["obs"]))["obs"]

    x = jnp.zeros((BATCH, 3))
    wanted = np.full((BATCH, 3), 6.0)
    np.testing.assert_array_equal(program(x), wanted)
    names = "shift", "scale", "shift#2", "scale#2"
    plan = Chunks(after(*(run(name, batch=4) for name in names)), 3)
    np.testing.assert_array_equal(Executor(program, plan, x)(x), wanted)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((SEEDS,), r"stage 'simulate': call it as stage\(rows, inputs\)"),
        ((SEEDS, SEEDS), "with a dictionary"),
    ],
)
def test_broken_calls(args, message, pool):
    with pytest.raises(ValueError, match=message):
        external("simulate", pool)(*args)


def test_what_jax_cannot_hold(pool):
    wide = config(double, stateful=False, simulators=None)
    wide = type(wide)(double, wide.inputs, {"obs": ArraySpec((3,), "float64")}, 12, 2)
    with pytest.raises(ValueError, match="s: float64 is float32 in JAX: declare float32"):
        external("s", wide)
    with pytest.raises(ValueError, match="declares no resets"):
        external_reset("s", Pool(config(double)))
