"""Intervals, tables, files and curves of a run."""

import json
import math

import numpy as np
import pytest

from loomax.agents.rl.interval import wilson
from loomax.agents.rl.plots import learning_curves
from loomax.agents.rl.report import Result, Score, artefacts, table, write_result
from loomax.runtime.plots import read_metrics

# Worked out by hand from (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
WILSON = [
    (5, 10, 0.23659, 0.76341),
    (0, 10, 0.0, 0.27753),
    (10, 10, 0.72247, 1.0),
    (95, 100, 0.88825, 0.97846),
]


@pytest.mark.parametrize(("successes", "trials", "low", "high"), WILSON)
def test_wilson(successes, trials, low, high):
    np.testing.assert_allclose(wilson(successes, trials), (low, high), atol=1e-5)


def test_wilson_is_where_the_score_test_rejects():
    # The bounds are the rates from which the observed one is z standard errors away.
    for rate in wilson(37, 120):
        away = abs(37 / 120 - rate) / math.sqrt(rate * (1 - rate) / 120)
        assert away == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize(
    ("successes", "trials", "said"),
    [(0, 0, "trials is 0"), (3, 2, "successes is 3; it must lie in 0..2"), (-1, 2, "is -1")],
)
def test_wilson_refuses(successes, trials, said):
    with pytest.raises(ValueError, match=said):
        wilson(successes, trials)


def test_the_table_has_a_row_for_every_score():
    scores = {"before RL": Score(256, 512), "after RL": Score(512, 512)}
    head, rule, before, after = table(scores).splitlines()
    assert head.split() == "policy success 95 % interval (512 held-out episodes)".split()
    assert set(rule) == {"-"} and len(rule) == len(head)
    assert before.startswith("before RL   50.0 %  [45.7, 54.3]")
    assert after.startswith("after RL   100.0 %  [99.3, 100.0]")


def test_only_what_exists_is_listed(tmp_path):
    (tmp_path / "here").write_text("")
    lines = artefacts({"one": tmp_path / "here", "other": tmp_path / "gone"})
    assert lines.split() == ["one", str(tmp_path / "here")]


def test_the_result_file_has_every_number(tmp_path):
    result = Result(0.5, 1.0, (0.4, 0.6), (0.9, 1.0), 0.2, 0.1, 512, 60.0, 1000, 9, "name", 3)
    write_result(tmp_path / "result.json", result)
    held = json.loads((tmp_path / "result.json").read_text())
    assert held["ci95_after"] == [0.9, 1.0] and held["success_black_images"] == 0.1
    assert held["config"] == "name" and held["seed"] == 3 and len(held) == 12


@pytest.fixture
def metrics(tmp_path):
    """Two iterations, one number that was not finite, and a line that a crash cut short."""
    rows = [
        {"step": 1, "time": 5.0, "rl/success": 0.25, "rl/reward": None},
        {"step": 2, "time": 6.0, "rl/success": 0.5, "rl/reward": 1.5},
        {"step": 2, "time": 6.5, "eval/success": 0.75},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "rl/succ')
    return path


def test_a_torn_line_and_null_are_left_out(metrics):
    assert read_metrics(metrics) == {
        "rl/success": ([1, 2], [0.25, 0.5]),
        "rl/reward": ([2], [1.5]),
        "eval/success": ([2], [0.75]),
    }


def test_curves_become_a_png(metrics, tmp_path):
    target = learning_curves(metrics, tmp_path / "plots" / "curves.png")
    content = target.read_bytes()
    assert content.startswith(b"\x89PNG\r\n") and len(content) > 10_000
    assert [path.name for path in target.parent.iterdir()] == ["curves.png"]


def test_no_metrics_are_an_empty_plot(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    assert learning_curves(tmp_path / "metrics.jsonl", tmp_path / "empty.png").is_file()
