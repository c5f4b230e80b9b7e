"""Stages with made-up costs, on a made-up clock: one switch, at the right time, unseen."""

import logging
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from loomax.agents.workflow.adapt import DriftConfig
from loomax.agents.workflow.execute.adaptive import AdaptiveConfig, AdaptiveExecutor, outline
from loomax.agents.workflow.execute.executor import Executor
from loomax.agents.workflow.execute.watch import Watch
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.tree import Chunks, Run, Shared, Space
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.stage import Stage, loop
from loomax.agents.workflow.trace import trace

ITEMS = 8
# Seconds of a call, and of each item on top; devices do not matter.
COSTS = {"simulate": (0.01, 0.09 / ITEMS), "learn": (0.1, 0.9 / ITEMS)}
HARDWARE = Hardware("cpu", 2, 10**9, 1e15, 1e15)
CONFIG = AdaptiveConfig(DriftConfig(window=4), every=1)


def seconds(name, items, factor=1.0):
    call, item = COSTS[name]
    return factor * (call + item * items)


def profile(factor=1.0):
    return Profile(
        "cpu",
        {
            name: StageProfile(
                tuple(
                    Measurement(b, n, seconds(name, b, factor if name == "simulate" else 1.0))
                    for b in (8, 4, 2, 1)
                    for n in (1, 2)
                )
            )
            for name in COSTS
        },
    )


@pytest.fixture
def world():
    """A program, its clock, and by how much the simulator is slower than its profile."""
    world = SimpleNamespace(now=0.0, factor=1.0, runs=0)

    def stage(name, change):
        def fn(x):
            if isinstance(x, np.ndarray):
                world.now += seconds(name, len(x), world.factor if name == "simulate" else 1.0)
                world.runs += name == "learn"
            return change(x)

        return Stage(name, fn, fusable=False)

    simulate = stage("simulate", lambda x: x * 2 % 7)
    learn = stage("learn", lambda x: x + 1)
    world.program = lambda x: learn(simulate(x))
    world.x = jnp.arange(float(ITEMS))
    return world


def plain(x, iterations):
    for _ in range(iterations):
        x = np.asarray(x) * 2 % 7 + 1
    return x


def test_one_switch_and_the_same_results(world, caplog):
    run = AdaptiveExecutor(
        world.program, profile(), HARDWARE, world.x, config=CONFIG, clock=lambda: world.now
    )
    before = run.plan
    x, plans = world.x, []
    with caplog.at_level(logging.INFO):
        for iteration in range(40):
            world.factor = 1.0 if iteration < 10 else 10.0
            x = run(x)
            plans.append(outline(run.plan))
            np.testing.assert_array_equal(x, plain(world.x, iteration + 1))
    # With the second slow one of four (11) the median has left the profile; a fresh window of four
    # is full after 15, and the next iteration is another plan's.
    switches = [i for i in range(1, 40) if plans[i] != plans[i - 1]]
    assert switches == [15]
    # In turns before; in a pipeline afterwards, since what was short is as long as the rest now.
    assert isinstance(before, Shared) and isinstance(run.plan, Chunks)
    assert isinstance(run.plan.child, Space) and run.plan.count == 4
    (record,) = caplog.records
    assert record.getMessage() == (
        "iteration 16: learn x1, simulate x10; another plan from here on, predicted 1.625 s an "
        "iteration"
    )
    assert _close(run.profile, profile(10.0))


def _close(a, b):
    pairs = [
        (x.seconds, y.seconds)
        for name in COSTS
        for x, y in zip(a.stages[name].measurements, b.stages[name].measurements, strict=True)
    ]
    return np.allclose(*zip(*pairs, strict=True), rtol=1e-9)


@pytest.mark.parametrize(
    ("factors", "lines"),
    [
        ([1.1] * 20, 0),  # within the threshold
        ([1.0] * 5 + [9.0] + [1.0] * 14, 0),  # one outlier
        ([1.0] * 5 + [9.0] * 3 + [1.0] * 12, 0),  # over before the fresh window is full
        ([1.3] * 20, 1),  # another profile, the same plan
    ],
)
def test_when_nothing_switches(factors, lines, world, caplog):
    run = AdaptiveExecutor(
        world.program, profile(), HARDWARE, world.x, config=CONFIG, clock=lambda: world.now
    )
    before, x = run.plan, world.x
    with caplog.at_level(logging.INFO):
        for world.factor in factors:
            x = run(x)
    assert run.plan == before and len(caplog.records) == lines
    assert all("the plan stays" in record.getMessage() for record in caplog.records)
    np.testing.assert_array_equal(x, plain(world.x, len(factors)))


def test_only_some_iterations_are_measured(world):
    reads = []
    config = AdaptiveConfig(DriftConfig(window=4), every=3)
    run = AdaptiveExecutor(
        world.program,
        profile(),
        HARDWARE,
        world.x,
        config=config,
        clock=lambda: reads.append(0) or 0.0,
    )
    counts = []
    for _ in range(7):
        run(world.x)
        counts.append(len(reads))
    # Two programs, each from and to; the first iteration compiles.
    assert counts == [0, 0, 0, 4, 4, 4, 8]


def test_what_a_watch_sees(workflow, inputs, same):
    """JAX programs, fused and in a loop: the same results, and each run with its size."""
    ticks = iter(range(10**6))
    watch = Watch(lambda: float(next(ticks)), on=True)
    one = Run(("act+simulate",), 4, 24, 1.0, 0, 0)
    two = Chunks(Run(("score", "judge"), 2, 8, 1.0, 0, 0), 3)
    plan = Shared(one, Shared(two, Run(("train",), 1, 24, 1.0, 0, 0), False, 0, 0), False, 0, 0)
    execute = Executor(workflow.program, plan, *inputs, watch=watch)
    same(execute(*inputs), workflow.program(*inputs))
    seen = watch.take()
    assert [s for _, s in seen] == [1.0] * 5 and not watch.take()
    pieces = [[piece.stages for piece in what.pieces] for what, _ in seen]
    rounds = workflow.rounds
    assert pieces[0] == [(("act", rounds), ("simulate", rounds))]
    assert pieces[1:4] == [[(("score", 1),), (("judge", 1),)]] * 3
    assert [(what.batch, what.devices) for what, _ in seen] == [(24, 4), *[(8, 2)] * 3, (24, 1)]


def test_a_fused_cycle_is_expected_to_take_what_it_was_profiled_at():
    act, turn = Stage("act", lambda x: x * 2), Stage("turn", lambda x: x % 7)

    def program(x):
        return loop(lambda x: turn(act(x)), x, 3)

    def stage(s):
        return StageProfile((Measurement(8, 1, s), Measurement(8, 2, s)))

    x = jnp.arange(8.0)
    stages = {"act": stage(1.0), "turn": stage(1.0), "act+turn": stage(2.0)}
    clock = SimpleNamespace(now=0.0)

    def read():
        clock.now += 4.0
        return clock.now

    given = Profile("cpu", stages), HARDWARE, x
    run = AdaptiveExecutor(program, *given, config=CONFIG, clock=read)
    for _ in range(12):
        x = run(x)
    # 4 s were measured, 2 s expected of the cycle: its stages are as much slower.
    by = {name: found.measurements[0].seconds for name, found in run.profile.stages.items()}
    assert by == {"act": 2.0, "turn": 2.0, "act+turn": 4.0}
    assert trace(program, x).batch == 8


def test_broken_settings():
    with pytest.raises(ValueError, match="every is 0"):
        AdaptiveConfig(every=0)
