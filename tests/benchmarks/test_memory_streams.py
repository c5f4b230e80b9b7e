"""Streams of requests: every buffer is freed, sizes follow the server, and rows."""

from collections import Counter

import numpy as np
import pytest

from benchmarks import _memory_streams as bench
from benchmarks._memory_streams import Kind, Server, draw_server, stream
from loomax.jaxlib_ext import online
from loomax.memory.allocator.planned import Planned
from loomax.memory.allocator.planned_native import PlannedNative
from loomax.memory.allocator.replay import events
from loomax.memory.lifetimes.trace import Trace

ONE = Server((Kind(1.0, 1024, 8192, 2048, 2),), caches=2, active=1)


def test_one_request_by_hand():
    trace = stream(ONE, 1, np.random.default_rng(0))
    # Tokens, two caches, the prefill; and in each of two steps two caches, scores, temporaries.
    sizes = [512, 1024, 1024, 8192, *[1024, 1024, 4096, 2048] * 2]
    assert [record.size for record in trace.records] == sizes
    # The prefill, or a step: old and new caches, scores and temporaries.
    assert trace.lower_bound == max(512 + 2 * 1024 + 8192, 4 * 1024 + 4096 + 2048)


def test_kept_caches_live_as_long_as_their_request():
    kept = Server(ONE.kinds, caches=2, renewed=False, active=1)
    trace = stream(kept, 1, np.random.default_rng(0))
    assert Counter(record.size for record in trace.records)[1024] == 2
    last = max(record.death for record in trace.records)
    assert sorted(r.death for r in trace.records if r.size == 1024) == [last - 1, last]


@pytest.mark.parametrize("seed", range(4))
def test_streams_are_those_of_their_seed(seed):
    def made(at):
        draw = np.random.default_rng(at)
        return stream(draw_server(draw), 5, draw)

    trace = made(seed)
    assert trace == made(seed) != made(seed + 1)
    times = sorted(time for record in trace.records for time in (record.birth, record.death))
    assert times == list(range(2 * len(trace.records)))


@pytest.mark.skipif(not online.available(), reason="no compiled allocator")
def test_served_alike_by_the_twin():
    trace = stream(bench.TINY, 4, np.random.default_rng(0))
    allocators = [make(Trace(()), {}) for make in (Planned, PlannedNative)]
    for born, record in events(trace):
        if born:
            first, second = (allocator.malloc(record.id, record.size) for allocator in allocators)
            assert first == second
        else:
            for allocator in allocators:
                allocator.free(record.id)
    assert allocators[0].reserved == allocators[1].reserved == bench.online(trace)
    assert allocators[0].counts == allocators[1].counts


def test_rows_have_the_promised_names(monkeypatch):
    monkeypatch.setattr(bench, "draw_server", lambda _: ONE)
    monkeypatch.setattr(bench, "TINY", ONE)
    found = {(row.case, row.baseline): row for row in bench.rows(True)}
    for name in ("trace-streams-tiny", "trace-streams"):
        for peer in ("torch-caching", "torch-expandable", "bfc"):
            row = found[name, peer]
            assert row.metric == "fragmentation" and row.source == "simulation"
            assert 0 <= row.value < 1
