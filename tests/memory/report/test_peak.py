"""The peak against counting at every step."""

import pytest

from loomax.memory.lifetimes.trace import Trace
from loomax.memory.report.peak import peak_of


def live_at(records, time):
    """Sizes of alias groups and single buffers that are in use at a step."""
    groups = {}
    for record in records:
        groups.setdefault(record.alias or f"one {record.id}", []).append(record)
    return [
        max(record.padded for record in group)
        for group in groups.values()
        if min(record.birth for record in group) <= time < max(record.death for record in group)
    ]


@pytest.mark.parametrize("name", ["step", "loop"])
def test_peak_is_the_first_step_with_most_bytes(traced, name):
    heap = traced[name][1].heap
    end = max(record.death for record in heap.records)
    sums = [sum(live_at(heap.records, time)) for time in range(end)]
    peak = peak_of(heap)
    assert peak.live == max(sums) == heap.lower_bound
    assert peak.time == sums.index(max(sums))
    assert set(sums[peak.time : peak.until]) == {peak.live}
    sizes = [record.padded for record in peak.held]
    assert sorted(sizes) == sorted(live_at(heap.records, peak.time))
    assert sizes == sorted(sizes, reverse=True)


def test_what_is_held_is_the_last_of_an_alias_group(small):
    peak = peak_of(small.heap)
    assert (peak.time, peak.until, peak.live) == (1, 3, 4 * 2**20)
    assert [record.id for record in peak.held] == ["a", "b"]


def test_a_trace_without_buffers_has_no_peak():
    peak = peak_of(Trace(()))
    assert (peak.time, peak.live, peak.held) == (0, 0, ())
