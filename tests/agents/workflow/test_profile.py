"""Profiles: their file, their fit."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from loomax.agents.workflow.fit import fit
from loomax.agents.workflow.profile import (
    Measurement,
    Profile,
    StageProfile,
    read_profile,
    write_profile,
)

PROFILE = Profile(
    "cpu",
    {
        "act": StageProfile((Measurement(8, 1, 0.5, 100, 20), Measurement(8, 2, 0.3, 100, 10))),
        "train": StageProfile((Measurement(8, 2, 1.5),), 12.5),
    },
)


def test_a_file_keeps_a_profile(tmp_path):
    write_profile(PROFILE, tmp_path / "profile.json")
    assert read_profile(tmp_path / "profile.json", "cpu") == PROFILE


def test_a_file_says_where_its_seconds_are_from(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(replace(PROFILE, source="estimate"), path)
    assert read_profile(path, "cpu").source == "estimate"
    path.write_text(changed(lambda d: None))
    assert read_profile(path, "cpu").source == "measured"


def changed(change) -> str:
    data = {
        "version": 1,
        "device_kind": "cpu",
        "stages": {
            "act": {
                "measurements": [
                    dict(batch=8, devices=1, seconds=1, resident_bytes=0, working_bytes=0)
                ],
                "transfer_bytes_per_item": None,
            }
        },
    }
    change(data)
    return json.dumps(data)


def measurement(data: dict) -> dict:
    return data["stages"]["act"]["measurements"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "version 2, known is 1: profile again"),
        (lambda d: d.update(device_kind="TPU v5e"), "measured on 'TPU v5e', asked for 'cpu'"),
        (lambda d: d.update(device_kinds=""), "unknown field 'device_kinds': did you mean dev"),
        (lambda d: d.update(source="guess"), "unknown source 'guess': choose from measured"),
        (lambda d: d.pop("stages"), "profile has no 'stages'"),
        (lambda d: d.update(stages=[]), "stages is not an object"),
        (lambda d: d["stages"]["act"].update(measurements=0), "'act': measurements is not a list"),
        (lambda d: d["stages"]["act"].update(measurements=[]), "'act': no measurement"),
        (
            lambda d: d["stages"]["act"]["measurements"].append(measurement(d)),
            "batch 8 on 1 devices was measured twice",
        ),
        (lambda d: measurement(d).update(seconds="1"), "seconds is '1': it must be a number"),
        (lambda d: measurement(d).update(seconds=0), "seconds is 0: it must be above 0"),
        (lambda d: measurement(d).update(working_bytes=-1), "working_bytes is -1"),
        (lambda d: measurement(d).update(second=1), "unknown field 'second': did you mean seconds"),
    ],
)
def test_broken_files(tmp_path, change, message):
    path = tmp_path / "profile.json"
    path.write_text(changed(change))
    with pytest.raises(ValueError, match=message) as caught:
        read_profile(path, "cpu")
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_profile(tmp_path / "none.json", "cpu")
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read_profile(tmp_path / "torn.json", "cpu")


def test_a_stage_that_was_not_profiled():
    with pytest.raises(ValueError, match="unknown stage 'trian': did you mean train"):
        PROFILE.stage("trian")


def seconds(batch, devices):
    share = batch / devices
    return (
        0.1 + 0.02 * share + 0.001 * batch + 0.03 * (1 - 1 / devices) + 0.004 * math.log2(devices)
    )


def measured(points) -> StageProfile:
    return StageProfile(
        tuple(
            Measurement(b, n, seconds(b, n), 1000 + 4800 // n, 50 + 7 * b // n) for b, n in points
        )
    )


def test_a_fit_finds_the_law():
    grid = [(b, n) for b in (16, 32, 64, 128) for n in (1, 2, 4, 8)]
    found = fit(measured(grid))
    assert found.error < 1e-6 and found.left_out_error < 1e-6
    np.testing.assert_allclose(found.seconds, (0.1, 0.02, 0.001, 0.03, 0.004), rtol=1e-5)
    option = found.option(256, 16)
    assert option.seconds == pytest.approx(seconds(256, 16), rel=1e-6)
    assert option.resident_bytes == pytest.approx(1000 + 300, abs=2)
    assert option.working_bytes == pytest.approx(50 + 7 * 16, abs=2)
    assert found.inside(48, 4) and not found.inside(48, 16) and not found.inside(256, 4)


def test_what_was_measured_stays():
    points = [(16, 1), (32, 1), (64, 1)]
    off = [Measurement(b, n, seconds(b, n) * (1.2 if b == 32 else 1)) for b, n in points]
    found = fit(StageProfile(tuple(off)))
    assert found.option(32, 1).seconds == off[1].seconds
    # The best line through three points, the middle one 20 % high, misses none by more than that.
    assert 0.02 < found.error < 0.2 < found.left_out_error


@pytest.mark.parametrize("points", [[(16, 1)], [(16, 2)]])
def test_one_measurement_is_taken_as_proportional(points):
    found = fit(measured(points))
    batch, devices = points[0]
    assert found.option(4 * batch, devices).seconds == pytest.approx(4 * seconds(batch, devices))
    assert found.left_out_error == math.inf and found.error < 1e-9


def test_work_in_the_background_is_the_same_beside_any_devices():
    rows = tuple(Measurement(b, n, 0.1 + 0.01 * b, 9, 7) for b in (8, 16) for n in (2, 4))
    found = fit(StageProfile(rows), background=True)
    assert found.fewest == 2 and found.error < 1e-9
    assert found.option(32, 16).seconds == pytest.approx(0.42)
    alone = found.option(16, 0)
    assert (alone.devices, alone.resident_bytes, alone.working_bytes) == (0, 0, 0)
    assert alone.seconds == pytest.approx(0.26)
    assert found.inside(16, 0) and not found.inside(32, 0)
    # From one device count alone: what would be shared of a stage on devices.
    single = StageProfile(rows[::2])
    assert fit(single, background=True).option(16, 8).seconds == pytest.approx(0.26)
    assert fit(single).option(16, 8).seconds < 0.2


def test_predictions_are_never_negative():
    # Times that fall with the batch have no such law: the fit must not fall below zero.
    odd = StageProfile(tuple(Measurement(b, 1, 1 / b) for b in (1, 2, 4)))
    found = fit(odd)
    assert found.option(64, 1).seconds >= 0 and found.error > 0.1
