"""Progress away from a terminal: few lines, with the time left."""

import pytest

from loomax.runtime import progress
from loomax.runtime.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_one_line_per_period_plus_first_and_last(clock, capsys):
    with Progress(20, "demos", every=10.0) as bar:
        for n in range(20):
            clock.now += 1.0
            bar.update(1, reward=n / 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "demos: 1/20  0:01 gone, 0:19 left  reward 0",
        "demos: 11/20  0:11 gone, 0:09 left  reward 5",
        "demos: 20/20  0:20 gone, 0:00 left  reward 9.5",
    ]


def test_hours_are_shown(clock, capsys):
    bar = Progress(2, "rl")
    clock.now += 3661
    bar.update()
    assert capsys.readouterr().err == "rl: 1/2  1:01:01 gone, 1:01:01 left\n"


def test_disabled_is_silent(clock, capsys):
    Progress(1, "quiet", enabled=False).update()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress(3, "sft") as bar:
        bar.update(3, loss=0.25)
    shown = capsys.readouterr().err
    assert "sft: 100%" in shown and "3/3" in shown
