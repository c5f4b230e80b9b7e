"""Replays: order of events, fragmentation, and the least capacity against trying all."""

import random

import pytest

from loomax.memory.allocator.peers.bfc import BFC
from loomax.memory.allocator.peers.torch_caching import TorchCaching
from loomax.memory.allocator.protocol import MIB
from loomax.memory.allocator.replay import Replay, events, least_capacity, replay, works
from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace


def test_at_one_time_buffers_are_freed_first():
    trace = Trace((Lifetime("b", 1, 3, 5), Lifetime("a", 1, 0, 3)))
    assert [(born, record.id) for born, record in events(trace)] == [
        (True, "a"),
        (False, "a"),
        (True, "b"),
        (False, "b"),
    ]


def test_an_alias_group_is_one_buffer():
    trace = Trace((Lifetime("a", 4, 0, 2, alias="x"), Lifetime("b", 8, 3, 5, alias="x")))
    assert [(born, record.id, record.size) for born, record in events(trace)] == [
        (True, "a", 8),
        (False, "a", 8),
    ]


def test_fragmentation_counts_what_is_reserved():
    trace = Trace((Lifetime("a", 5 * MIB, 0, 2), Lifetime("b", 10 * MIB, 1, 3)))
    found = replay(trace, TorchCaching())
    assert found == Replay(30 * MIB - 10 * MIB, 15 * MIB, 15 * MIB)
    assert found.fragmentation == pytest.approx(1 - 15 / 20)
    assert replay(Trace(()), TorchCaching()).fragmentation == 0.0


def test_a_cached_segment_raises_reserved_but_not_the_least_capacity():
    # A segment of 12 MiB stays cached while one of 16 MiB is made; with less memory it is returned.
    trace = Trace((Lifetime("a", 12 * MIB, 0, 1), Lifetime("b", 16 * MIB, 1, 2)))
    assert replay(trace, TorchCaching()).reserved == 28 * MIB
    assert least_capacity(trace, TorchCaching, 2 * MIB) == 16 * MIB


@pytest.mark.parametrize("seed", range(3))
def test_the_least_capacity_works_and_a_step_less_does_not(seed):
    draw = random.Random(seed)
    births = [draw.randrange(20) for _ in range(30)]
    trace = Trace(
        tuple(
            Lifetime(str(at), 256 * draw.randint(1, 40), birth, birth + draw.randint(1, 9))
            for at, birth in enumerate(births)
        )
    )

    def make(capacity):
        return BFC(capacity, growth=False)

    least = least_capacity(trace, make, 256)
    assert least >= trace.lower_bound
    assert works(trace, make(least)) and not works(trace, make(least - 256))


def test_nothing_needs_nothing():
    assert least_capacity(Trace(()), TorchCaching) == 0
    with pytest.raises(ValueError, match="step is 0"):
        least_capacity(Trace(()), TorchCaching, 0)
