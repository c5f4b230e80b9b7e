"""Drift: when to plan again, and when not."""

import pytest

from loomax.agents.workflow.adapt import Drift, DriftConfig, factors, observe, scaled
from loomax.agents.workflow.profile import Measurement, Profile, StageProfile

CONFIG = DriftConfig(window=4, threshold=0.15, release=0.075)


def feed(measured, config=CONFIG, drift=None):
    """(last state, at which measurements it said re-plan); the profile says 2 s."""
    drift, said = drift or Drift(), []
    for index, seconds in enumerate(measured):
        drift, now = observe(config, drift, "act", seconds, 2.0)
        said += [index] if now else []
    return drift, said


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ([2.0] * 8, []),
        ([2.28] * 8, []),  # 14 %
        ([2.4] * 8, [3]),  # 20 %, when the window is full, and once
        ([1.6] * 8, [3]),  # faster counts too
        ([2.0, 2.0, 9.0, 2.0, 2.0, 2.0, 9.0, 2.0], []),  # outliers do not move a median
        ([2.0] * 4 + [2.6] * 4, [6]),  # three of four
        ([2.4] * 4 + [2.2] * 4 + [2.4] * 4, [3]),  # 10 % is no recovery
        ([2.4] * 4 + [2.0] * 4 + [2.4] * 4, [3, 10]),
    ],
)
def test_when_it_says_so(measured, said):
    assert feed(measured)[1] == said


def test_stages_are_told_apart():
    drift, said = feed([2.5] * 4)
    assert said == [3] and drift.drifted == {"act"}
    for _ in range(3):
        drift, now = observe(CONFIG, drift, "train", 3.0, 2.0)
        assert not now
    drift, now = observe(CONFIG, drift, "train", 3.0, 2.0)
    assert now and drift.drifted == {"act", "train"}
    assert factors(drift) == {"act": 1.25, "train": 1.5}


def test_states_do_not_change():
    before, _ = feed([2.0] * 2)
    observe(CONFIG, before, "act", 9.0, 2.0)
    assert before.ratios["act"] == (1.0, 1.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [(dict(window=0), "window is 0"), (dict(release=0.2), "release is 0.2.* 0.15")],
)
def test_broken_settings(config, message):
    with pytest.raises(ValueError, match=message):
        DriftConfig(**config)


@pytest.mark.parametrize(
    ("measured", "expected", "message"),
    [
        (1.0, 0.0, "profile of 'act' says 0.0"),
        (-1.0, 1.0, "measured -1"),
        (float("nan"), 1.0, "na"),
    ],
)
def test_broken_measurements(measured, expected, message):
    with pytest.raises(ValueError, match=message):
        observe(CONFIG, Drift(), "act", measured, expected)


def test_scaled_profiles():
    def stage(*seconds):
        return StageProfile(tuple(Measurement(8, n + 1, s) for n, s in enumerate(seconds)))

    stages = {
        "act": stage(1.0, 0.5),
        "turn": stage(3.0),
        "act+turn": stage(10.0),
        "train": stage(7),
    }
    found = scaled(Profile("cpu", stages), {"act": 2.0, "turn": 4.0})
    seconds = {name: [m.seconds for m in s.measurements] for name, s in found.stages.items()}
    # The cycle: (1 * 2 + 3 * 4) / 4 = 3.5 times.
    assert seconds == {"act": [2.0, 1.0], "turn": [12.0], "act+turn": [35.0], "train": [7.0]}
    known = scaled(Profile("cpu", stages), {"act": 2.0, "turn": 4.0, "act+turn": 1.5})
    assert known.stages["act+turn"] == stage(15.0)
    assert scaled(Profile("cpu", stages), {"act": 2.0}).stages["act+turn"] == stage(10.0)
