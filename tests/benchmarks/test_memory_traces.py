"""Replays of several iterations: residents stay, and least capacities are those of one replay."""

import pytest

from benchmarks._memory_traces import PEERS, cases, least, one_region, reserved, row, static_part
from loomax.memory.allocator.peers.torch_caching import TorchCaching
from loomax.memory.allocator.protocol import MIB
from loomax.memory.allocator.replay import least_capacity, replay
from loomax.memory.lifetimes.pipeline import pipeline_trace
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace

TRACE = Trace(
    (
        Lifetime("weights", 12 * MIB, 0, 9, kind="parameter"),
        Lifetime("a", 14 * MIB, 1, 3, kind="temporary"),
        Lifetime("b", 16 * MIB, 3, 5, kind="dynamic"),
    )
)


def test_residents_are_allocated_once():
    seen = []

    class Log(TorchCaching):
        def malloc(self, id, size):
            seen.append(id)
            return super().malloc(id, size)

    assert reserved([TRACE, TRACE], Log()) == 42 * MIB
    assert seen == ["weights", "a", "b", "a", "b"]


@pytest.mark.parametrize("make", [*PEERS.values(), one_region])
def test_one_iteration_is_a_replay(make):
    expected = least_capacity(TRACE, make, 2 * MIB)
    assert least([TRACE], make, TRACE.lower_bound) == expected
    if make is not one_region:
        assert reserved([TRACE], make(None)) == replay(TRACE, make(None)).reserved


def test_the_static_part_has_no_dynamic_buffers():
    assert [record.id for record in static_part(TRACE).records] == ["weights", "a"]


def test_all_cases_have_a_trace():
    assert len({case.name for case in cases(False)}) == len(cases(False)) == 10
    for case in cases(True):
        kinds = {record.kind for record in pipeline_trace(case.config).records}
        assert ("dynamic" in kinds) == case.dynamic


def test_ratios_stop_where_nothing_shows():
    assert row("x", "fragmentation", 0.0, "torch-caching", 0.02).ratio == pytest.approx(200)
    assert row("x", "fragmentation", 0.01, "torch-caching", 0.02).ratio == pytest.approx(2)
