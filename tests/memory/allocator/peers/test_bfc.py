"""XLA's BFC allocator: its rules, by cases worked out by hand."""

import pytest

from loomax.memory.allocator.peers.bfc import BFC
from loomax.memory.allocator.protocol import MIB


def test_requests_are_rounded_to_256_bytes():
    peer = BFC()
    assert [peer.malloc(name, size) for name, size in [("a", 1), ("b", 257), ("c", 1)]] == [
        0,
        256,
        768,
    ]
    assert peer.allocated == 1024


def test_regions_double():
    peer = BFC()
    peer.malloc("a", MIB)
    assert peer.reserved == 2 * MIB
    peer.malloc("b", 2 * MIB)  # the next is of 4 MiB
    assert peer.reserved == 6 * MIB
    peer.malloc("c", 5 * MIB)  # the next is of 8 MiB
    assert peer.reserved == 14 * MIB
    peer.malloc("d", 30 * MIB)  # 16 MiB are not enough: 32 MiB, and the next are 32 MiB too
    assert peer.reserved == 46 * MIB
    peer.malloc("e", 31 * MIB)
    assert peer.reserved == 78 * MIB


def test_the_last_region_is_what_is_left():
    peer = BFC(capacity=5 * MIB + 100)
    peer.malloc("a", 2 * MIB)
    peer.malloc("b", 3 * MIB)
    assert peer.reserved == 5 * MIB
    with pytest.raises(MemoryError, match="1 bytes do not fit|256 bytes do not fit"):
        peer.malloc("c", 1)


def test_one_region_is_taken_at_once():
    peer = BFC(capacity=64 * MIB + 100, growth=False)
    peer.malloc("a", 1)
    assert peer.reserved == 64 * MIB
    with pytest.raises(ValueError, match="growth is False and capacity None"):
        BFC(growth=False)


def test_a_chunk_is_split_from_twice_the_request_on():
    peer = BFC(capacity=1024, growth=False)
    peer.malloc("a", 513)  # 768 of 1024: less than twice, so all of it
    assert peer.allocated == 1024
    peer.free("a")
    peer.malloc("b", 512)
    assert peer.allocated == 512


def test_a_rest_of_128_mebibytes_is_always_split():
    for rest, taken in [(128 * MIB - 256, 328 * MIB - 256), (128 * MIB, 200 * MIB)]:
        peer = BFC(capacity=200 * MIB + rest, growth=False)
        peer.malloc("a", 200 * MIB)
        assert peer.allocated == taken


def test_best_fit_takes_the_smallest_then_the_lowest():
    peer = BFC(capacity=64 * 256, growth=False)
    at = {
        name: peer.malloc(name, units * 256)
        for name, units in [("a", 4), ("-", 1), ("b", 3), ("--", 1), ("c", 3), ("---", 1)]
    }
    for name in "abc":
        peer.free(name)
    assert peer.malloc("d", 2 * 256) == at["b"]  # takes all three, as they are not twice as many
    assert peer.malloc("e", 3 * 256) == at["c"]
    assert peer.malloc("f", 256) == at["a"]
    assert peer.malloc("g", 256) == at["a"] + 256  # 3 left


def test_chunks_of_two_regions_are_not_joined():
    peer = BFC(capacity=4 * MIB)
    peer.malloc("a", 2 * MIB)
    peer.malloc("b", 2 * MIB)
    peer.free("a")
    peer.free("b")
    with pytest.raises(MemoryError):
        peer.malloc("c", 3 * MIB)
