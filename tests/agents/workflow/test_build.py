"""From graph and profile to a problem; what is printed about its plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from loomax.agents.workflow.build import problem_of
from loomax.agents.workflow.gantt import draw, text
from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.choose import choose
from loomax.agents.workflow.plan.tree import Run, Shared, Space, cost
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile
from loomax.agents.workflow.report import describe, parts
from loomax.agents.workflow.simulate import simulate
from loomax.agents.workflow.workflow import Call, Edge, Workflow

HARDWARE = Hardware("cpu", 8, 1000, 1000.0, 1000.0, dispatch_s=0.001)


def call(name, times=1, **rest) -> Call:
    return Call(name, name, (), None, times=times, **rest)


WORKFLOW = Workflow(
    (call("act", 4), call("simulate", 4, fusable=False), call("train", batch_axis=None)),
    (
        Edge("act", "simulate", 4.0),
        Edge("simulate", "act", 40.0, back=True),
        Edge("simulate", "train", 10.0),
    ),
    16,
)


def profile(**scales) -> StageProfile:
    def at(b, n):
        seconds = scales["fixed"] + scales["share"] * b / n
        return Measurement(b, n, seconds, scales["resident"], scales["working"] * b // n)

    return StageProfile(tuple(at(b, n) for b in (4, 8, 16) for n in (1, 2, 4)))


PROFILE = Profile(
    "cpu",
    {
        "act": profile(fixed=0.01, share=0.02, resident=300, working=4),
        "simulate": profile(fixed=0.05, share=0.01, resident=200, working=2),
        "train": profile(fixed=0.1, share=0.05, resident=500, working=10),
    },
)


def test_a_cycle_is_one_unit():
    problem = problem_of(WORKFLOW, PROFILE, HARDWARE)
    cycle, train = problem.units
    assert (cycle.name, cycle.fusable, cycle.splits) == ("act+simulate", False, True)
    assert (train.name, train.fusable, train.splits) == ("train", True, False)
    assert [(link.source, link.target, link.bytes_per_item) for link in problem.links] == [
        (0, 1, 10.0)
    ]
    together = {o.devices: o for o in problem.options(0, 16) if o.ring is None}
    assert list(together) == [1, 2, 4, 8]
    # Four rounds on 4 devices, each call with its dispatch; the residents of both.
    each = (0.01 + 0.02 * 4) + (0.05 + 0.01 * 4)
    assert together[4].seconds == pytest.approx(4 * (each + 2 * 0.001))
    assert (together[4].resident_bytes, together[4].working_bytes) == (500, 16)


def test_a_ring_of_a_cycle():
    problem = problem_of(WORKFLOW, PROFILE, HARDWARE)
    rings = [o for o in problem.options(0, 16) if o.ring is not None]
    assert all(o.devices == sum(s.devices for s in o.ring.stations) <= 8 for o in rings)
    option = next(
        o for o in rings if o.ring.turns == 2 and [s.devices for s in o.ring.stations] == [4, 1]
    )
    act, simulate_ = option.ring.stations
    assert act.seconds == pytest.approx(0.01 + 0.02 * 2 + 0.001)
    assert simulate_.seconds == pytest.approx(0.05 + 0.01 * 8 + 0.001)
    # Bytes of an iteration, by rounds and turns, at 1000 bytes a second.
    assert act.transfer_s == pytest.approx(4.0 * 8 / 4 / 1000)
    assert simulate_.transfer_s == pytest.approx(40.0 * 8 / 4 / 1000)
    around = sum(s.seconds + s.transfer_s for s in option.ring.stations)
    assert option.seconds == pytest.approx(max(4 * around + 0.131, around + 7 * 0.131))
    assert (option.resident_bytes, option.working_bytes) == (300, 8)


def test_a_cycle_as_it_ran():
    joined = profile(fixed=0.4, share=0.1, resident=500, working=5)
    measured = Profile("cpu", {"act+simulate": joined, "train": PROFILE.stages["train"]})
    problem = problem_of(WORKFLOW, measured, HARDWARE)
    assert [o.seconds for o in problem.options(0, 16)][:3] == pytest.approx([2.0, 1.2, 0.8])
    assert problem.units[0].parts == (("act", 0.5, 4), ("simulate", 0.5, 4))
    both = Profile("cpu", {**PROFILE.stages, "act+simulate": joined})
    options = problem_of(WORKFLOW, both, HARDWARE).options(0, 16)
    assert any(o.ring for o in options) and options[0].seconds == pytest.approx(2.0)


def test_bytes_of_the_profile_count():
    stages = PROFILE.stages | {
        "simulate": replace(PROFILE.stages["simulate"], transfer_bytes_per_item=3.0)
    }
    problem = problem_of(WORKFLOW, Profile("cpu", stages), HARDWARE)
    assert problem.links[0].bytes_per_item == 3.0


def test_profiles_that_do_not_suit():
    with pytest.raises(ValueError, match="of 'TPU v5e', the devices are 'cpu'"):
        problem_of(WORKFLOW, replace(PROFILE, device_kind="TPU v5e"), HARDWARE)
    few = Profile("cpu", {"act": PROFILE.stages["act"]})
    with pytest.raises(ValueError, match="unknown stage 'simulate'"):
        problem_of(WORKFLOW, few, HARDWARE)


def test_a_report():
    choice = choose(
        problem_of(WORKFLOW, PROFILE, replace(HARDWARE, memory_bytes=700, host_bytes_per_s=1e6))
    )
    printed = describe(choice, PROFILE, "rl")
    assert printed.startswith("rl: 2 units, 16 items, 8 x cpu with 700 B\nplan       ")
    assert f"predicted  {choice.seconds:.4g} s an iteration" in printed
    assert "host memory" in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    for name, plan in choice.rivals.items():
        assert rows[name][1] == ("-" if plan is None else f"{cost(plan).latency_s:.4g}")
    assert rows["fused"][1] == "-"
    assert "estimate" not in printed
    assert "all seconds are the compiler's own" in describe(
        choice, replace(PROFILE, source="estimate")
    )
    assert "the plan goes beyond" in printed  # 8 devices were not measured.
    timeline = simulate(choice.plan, parts=parts(choice))
    assert timeline.seconds == pytest.approx(choice.seconds)
    assert {"act", "simulate", "train"} == {
        e.task.name for e in timeline.events if e.task.kind == "run"
    }


def test_a_chart_in_text():
    first = Space(Run(("a",), 2, 8, 1.0, 1, 0), Run(("b",), 1, 8, 1.0, 1, 0), 1.0, False)
    plan = Shared(first, Run(("c",), 3, 8, 1.0, 1, 0), True, 0.0, 4.0)
    assert text(simulate(plan), 16).splitlines() == [
        "devices 0-1 ~~AA....~~~~CC~~",
        "device 2    ~~....BB~~~~CC~~",
        "links       ....>>..........",
        "            0            8 s",
        "A a, B b, C c; > data, ~ swap, . idle",
    ]


def test_a_chart_as_a_picture(tmp_path):
    plan = Space(Run(("a",), 2, 8, 1.0, 1, 0), Run(("b",), 1, 8, 1.0, 1, 0), 1.0, False)
    path = draw(simulate(plan), Path(tmp_path) / "plan.png")
    with Image.open(path) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(31, 119, 180), (255, 127, 14), (153, 153, 153)} <= colours
