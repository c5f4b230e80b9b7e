"""Recorded traces: requests, and rows."""

import pytest

from benchmarks import _memory_recorded as bench
from loomax.jaxlib_ext import arena
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace

TRACE = Trace(
    (
        Lifetime("0", 1024, 0, 3, 512),
        Lifetime("1", 1024, 1, 2, 512),
        Lifetime("2", 1024, 4, 9, 512),
        Lifetime("3", 2048, 5, 8, 512),
        Lifetime("4", 1024, 6, 7, 512),
    )
)


def test_requests_fit_into_their_buckets():
    made = bench.requests(100, seed=0)
    assert {one.bucket for one in made} == set(bench.BUCKETS)
    assert all(2 <= one.left < one.bucket // 2 for one in made)
    assert made == bench.requests(100, seed=0) != bench.requests(100, seed=1)


def test_rows_have_the_promised_names(monkeypatch):
    monkeypatch.setattr(arena, "available", lambda: True)
    monkeypatch.setattr(bench, "record", lambda *_: TRACE)
    monkeypatch.setattr(bench._memory_streams, "rows", lambda _: [])
    rows = bench.rows(True)
    found = {(f"{row.bench}/{row.case}/{row.metric}", row.baseline): row for row in rows}
    for name in ("rl-loop", "serving"):
        for peer in ("torch-caching", "torch-expandable", "bfc"):
            row = found[f"memory/trace-{name}/fragmentation", peer]
            assert row.source == "simulation" and row.value == pytest.approx(0.0)


def test_without_the_arena_there_are_only_streams(monkeypatch, capsys):
    monkeypatch.setattr(arena, "available", lambda: False)
    monkeypatch.setattr(bench._memory_streams, "rows", lambda _: [])
    assert bench.rows(True) == [] and "is not built here" in capsys.readouterr().out
