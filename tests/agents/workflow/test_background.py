"""Cycles with a stage outside of the devices: their ways, their seconds, what is drawn of them."""

from dataclasses import replace

import pytest

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.gantt import text
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import choose, find_plan
from loomax.agents.workflow.plan.config import PlanConfig
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.plan.tree import Run, cost
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.report import describe
from loomax.agents.workflow.simulate import simulate
from loomax.agents.workflow.workflow import Call, Edge, Workflow

HARDWARE = Hardware("cpu", 2, 1000, 1000.0, 1000.0, link_latency_s=0.5, dispatch_s=0.01)
BACKGROUND = {"fusable": False, "background": True}


def workflow(*calls: Call) -> Workflow:
    flows = zip(calls, (*calls[1:], calls[0]), strict=True)
    return Workflow(calls, tuple(Edge(a.name, b.name, 100.0, b is calls[0]) for a, b in flows), 8)


def call(name, **rest) -> Call:
    return Call(name, name, (), None, times=3, **rest)


def costs(seconds, resident=0, working=0, batches=(8, 4, 2, 1), devices=(1, 2)) -> StageProfile:
    return StageProfile(
        tuple(
            Measurement(b, n, seconds(b, n), resident, working)
            for b in batches
            for n in devices
            if b % n == 0
        )
    )


PROFILE = Profile(
    "cpu",
    {
        "act": costs(lambda b, n: 0.25 * b / n, 300, 50),
        "simulate": costs(lambda b, n: 0.125 * b, 40, 900, devices=(1,)),
    },
)
CYCLE = workflow(call("act"), call("simulate", **BACKGROUND))


def rings(workflow, hardware=HARDWARE, profile=PROFILE, batch=8):
    options = problem_of(workflow, profile, hardware).options(0, batch)
    return [option for option in options if option.ring]


def test_a_station_in_the_background_has_no_devices():
    found = {(o.ring.turns, o.devices): o for o in rings(CYCLE)}
    assert {[s.devices for s in o.ring.stations][1] for o in found.values()} == {0}
    two = found[2, 2]
    act, outside = two.ring.stations
    # Nothing crosses between groups of devices: the way to the host is in the stage's seconds.
    assert act == Station("act", 2, 0.25 * 2 + 0.01) and outside == Station("simulate", 0, 0.51)
    assert two.seconds == pytest.approx(3 * 1.02 + 0.51)
    # Nor does it hold any of their memory.
    assert (two.resident_bytes, two.working_bytes) == (300, 50)


def test_one_device_is_enough_and_none_is_not():
    assert {o.devices for o in rings(CYCLE, replace(HARDWARE, devices=1))} == {1}
    both = workflow(call("act", **BACKGROUND), call("simulate", **BACKGROUND))
    assert not rings(both)


def test_stages_on_devices_still_hand_over():
    three = workflow(call("act"), call("judge"), call("simulate", **BACKGROUND))
    profile = Profile("cpu", {**PROFILE.stages, "judge": PROFILE.stages["act"]})
    (ring, *_) = rings(three, profile=profile)
    # 100 bytes an item of an iteration, in three rounds, at 1000 bytes a second.
    moved = 0.5 + 100 * (8 // ring.ring.turns) / 3 / 1000
    assert [s.transfer_s for s in ring.ring.stations] == pytest.approx([moved, 0.0, 0.0])


def test_turns_that_are_forbidden_hide_no_others():
    problem = problem_of(CYCLE, PROFILE, HARDWARE)
    for counts in ((1,), (1, 2), (1, 2, 4)):
        plan = find_plan(problem, PlanConfig(("space",), counts))
        assert isinstance(plan, Run) and plan.ring is not None
        assert plan.ring.turns == max(counts)


def test_parts_are_multiples():
    some = workflow(call("act"), call("simulate", multiple=4, **BACKGROUND))
    assert {o.ring.turns for o in rings(some)} == {1, 2}
    problem = problem_of(some, PROFILE, HARDWARE)
    assert not problem.options(0, 2) and problem.options(0, 4)
    odd = workflow(call("act"), call("simulate", multiple=3, **BACKGROUND))
    # The whole batch is what it is.
    assert {o.ring.turns for o in rings(odd)} == {1}


def test_a_report_has_a_row_for_the_host():
    choice = choose(problem_of(CYCLE, PROFILE, HARDWARE))
    assert choice.plan.ring is not None
    printed = describe(choice, PROFILE, "rl")
    turns = choice.plan.ring.turns
    assert f"plan       ring(act @2 | simulate @host, {turns} turns)" in printed
    rows = {line.split()[0]: line for line in printed.splitlines() if line}
    assert rows["host"].count("B") > rows["devices"].count("B") == 0
    assert "beyond" not in printed
    timeline = simulate(choice.plan)
    assert timeline.seconds == pytest.approx(cost(choice.plan).latency_s)
    # Work on the host is no work of the devices.
    act = sum(e.end_s - e.start_s for e in timeline.events if e.task.name == "act")
    assert timeline.busy == pytest.approx(act / timeline.seconds)
    narrow = Profile("cpu", {**PROFILE.stages, "simulate": costs(lambda b, n: 1.0, batches=(8,))})
    assert "beyond" in describe(choice, narrow)


def test_stages_outside_are_drawn_one_by_one():
    ring = Ring((Station("a", 1, 2.0), Station("b", 0, 2.0), Station("c", 0, 4.0)), 1, 1)
    plan = Run(("a+b+c",), 1, 8, 8.0, 0, 0, ring)
    assert text(simulate(plan), 8).splitlines() == [
        "device 0 AA......",
        "host     ..BB....",
        "host     ....CCCC",
        "         0    8 s",
        "A a, B b, C c; > data, ~ swap, . idle",
    ]
