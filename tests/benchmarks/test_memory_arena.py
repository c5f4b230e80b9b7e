"""The arena's benchmark: names of its rows, equal losses, processes that end."""

import pytest

from benchmarks import _memory_arena as bench
from loomax.jaxlib_ext import arena

TURN = {"cpu_s": 0.5, "faults": 0.0, "loss": 1.0, "grown": 110, "planned": 100}


def test_rows_have_the_promised_names(monkeypatch):
    turns = {
        "arena": [TURN],
        "glibc": [{**TURN, "cpu_s": 0.75, "faults": 300.0}],
        "glibc-tuned": [{**TURN, "cpu_s": 0.55, "faults": 2.0}],
    }
    monkeypatch.setattr(arena, "available", lambda: True)
    monkeypatch.setattr(bench, "measured", lambda *_: turns)
    found = {
        (f"{row.bench}/{row.case}/{row.metric}", row.baseline): row.ratio
        for row in bench.rows(True)
    }
    assert found["memory/arena/cpu_s", "glibc"] == pytest.approx(1.5)
    assert found["memory/arena/cpu_s", "glibc-tuned"] == pytest.approx(1.1)
    assert found["memory/arena/faults", "glibc"] == 300
    assert ("memory/arena/rss_over_plan", None) in found


def test_no_rows_without_the_library(monkeypatch, capsys):
    monkeypatch.setattr(arena, "available", lambda: False)
    assert bench.rows(True) == []
    assert "not built" in capsys.readouterr().out


def test_different_losses_are_an_error():
    with pytest.raises(RuntimeError, match=r"glibc has loss 1.5, ours 1.0"):
        bench.check_losses({"arena": [TURN], "glibc": [{**TURN, "loss": 1.5}]})


def test_a_process_that_ends_is_an_error():
    child = bench.Child("arena", -1, 1)
    with pytest.raises(RuntimeError, match="the process arena ended with"):
        child.measure()
    child.close()
