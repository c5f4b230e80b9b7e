"""What loomax plan rl says about where its numbers are from."""

from dataclasses import replace

import pytest
from PIL import Image

from loomax.agents.planning import LINKS, PCI, Traced, choose_plan
from loomax.agents.workflow.measure.links import Rates
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile, read_profile
from loomax.agents.workflow.workflow import Call, Workflow
from loomax.cli.plan_rl import show

KIND = "TPU v5 lite"
CALL = Call("update", "update", (), None)
STAGE = StageProfile((Measurement(8, 1, 2.0), Measurement(8, 2, 1.0)))
TRACED = Traced(
    Workflow((CALL,), (), 8),
    Profile(KIND, {"update": STAGE}, "estimate"),
    "estimate of the TPU compiler, nothing ran",
    2,
    10**9,
)


def shown(traced, capsys, folder, **rates) -> str:
    show(traced, choose_plan(traced, **rates), "toy", folder)
    return capsys.readouterr().out


def test_estimates_are_called_so(tmp_path, capsys):
    said = shown(TRACED, capsys, tmp_path)
    assert said.startswith("profile: estimate of the TPU compiler, nothing ran\n")
    assert "all seconds are the compiler's own" in said and "left out  estimated" in said
    assert f"{LINKS[KIND] / 1e9:g} GB/s between devices, {PCI / 1e9:g} GB/s to host" in said
    assert "(not measured, unless given)" in said
    assert read_profile(tmp_path / "profile.json", KIND) == TRACED.profile
    with Image.open(tmp_path / "timeline.png") as image:
        assert image.width > 100


@pytest.mark.parametrize(
    ("rates", "line"),
    [
        ({}, "3 GB/s between devices, 2 GB/s to host"),
        ({"link": 5 * 10**9}, "5 GB/s between devices, 2 GB/s to host"),
        ({"host": 7 * 10**9}, "3 GB/s between devices, 7 GB/s to host"),
    ],
)
def test_what_was_measured_counts_unless_another_rate_is_given(rates, line, tmp_path, capsys):
    measured = replace(TRACED, rates=Rates(3e9, 2e9), profile=Profile(KIND, {"update": STAGE}))
    said = shown(measured, capsys, tmp_path, **rates)
    assert line in said and "(measured, unless given)" in said
    assert "nothing ran: all" not in said and "left out  measured" in said
