"""`loomax plan memory` on the smallest language model."""

import json

import pytest

from loomax.cli import plan_memory
from loomax.cli.main import main

CONFIG = ["plan", "memory", "--config", "lm-debug"]


@pytest.fixture(autouse=True)
def in_process(monkeypatch, tmp_path):
    """JAX runs already, with more devices than the command would start."""
    monkeypatch.setattr(plan_memory, "start_jax", lambda target: None)
    monkeypatch.setenv("LOOMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_budget_is_searched_and_what_was_tried_is_drawn(capsys, tmp_path):
    assert main([*CONFIG, "--budget", "1GiB", "--show", "shown"]) == 0
    text = capsys.readouterr().out
    assert "lm-debug, a step of 8 rows of 32 tokens, on cpu" in text
    assert "cpu, 1.0 GiB a device: remat none" in text
    assert {path.name for path in (tmp_path / "shown").iterdir()} == {
        "memory.png",
        "memory.html",
        "memory.json",
    }


def test_a_recorded_step_is_within_its_own_budget_and_not_within_a_smaller(capsys, tmp_path):
    path = tmp_path / "budget.json"
    assert main([*CONFIG, "--record", str(path), "--check", str(path)]) == 0
    assert f"within {path}" in capsys.readouterr().out
    held = json.loads(path.read_text())
    (entry,) = held["entries"]
    entry["temp_bytes"] //= 2
    entry["peak_bytes"] -= entry["temp_bytes"]
    path.write_text(json.dumps(held))
    with pytest.raises(SystemExit) as caught:
        main([*CONFIG, "--check", str(path)])
    assert caught.value.code == 1
    assert "temporaries" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "memory"], "unknown config ''"),
        (["plan", "memory", "--config", "yoco-tinny"], "did you mean yoco-tiny"),
        ([*CONFIG, "--target", "cpx"], "unknown target 'cpx'"),
        ([*CONFIG, "--program", "update"], "unknown program 'update'"),
        ([*CONFIG, "--budget", "much"], "--budget is 'much', no number of bytes"),
        ([*CONFIG, "--budget", ""], "--budget is empty: give a value"),
        ([*CONFIG, "--budget", "1e400GiB"], "--budget is '1e400GiB', more than 2**60 bytes"),
        ([*CONFIG, "--budget", "1GiB", "--most", "-5"], "--most is -5: give at least 1"),
        ([*CONFIG, "--largest"], "--largest needs --budget"),
        ([*CONFIG, "--tolerance", "nan"], "--tolerance is nan"),
        ([*CONFIG, "--check", ""], "--check is empty"),
        ([*CONFIG, "--check", "absent.json"], "absent.json"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_compiled(capsys, monkeypatch, words, message):
    monkeypatch.setattr(plan_memory, "report", None)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
