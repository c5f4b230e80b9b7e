"""PyTorch's expandable segments: their rules, by cases worked out by hand."""

import pytest

from loomax.memory.allocator.peers.torch_expandable import TorchExpandable
from loomax.memory.allocator.protocol import MIB


def test_ranges_grow_by_pages():
    peer = TorchExpandable()
    start = peer.malloc("a", 15 * MIB)
    assert peer.reserved == 20 * MIB
    # 5 MiB are left, 15 more are missing: one more page.
    assert peer.malloc("b", 20 * MIB) == start + 15 * MIB
    assert peer.reserved == 40 * MIB
    assert peer.malloc("c", 5 * MIB) == start + 35 * MIB and peer.reserved == 40 * MIB
    assert peer.malloc("d", 41 * MIB) == start + 40 * MIB and peer.reserved == 100 * MIB
    peer.malloc("e", MIB)
    assert peer.reserved == 102 * MIB


def test_large_blocks_are_split_from_512_bytes_on():
    peer = TorchExpandable()
    start = peer.malloc("a", 20 * MIB - 512)
    assert peer.allocated == 20 * MIB - 512
    assert peer.malloc("b", 2 * MIB) == start + 20 * MIB - 512


def test_a_chunk_that_can_grow_counts_as_large():
    peer = TorchExpandable()
    start = peer.malloc("a", 8 * MIB)
    peer.malloc("b", 7 * MIB)
    peer.free("a")
    # 5 MiB at the end of the range are the smaller fit, but can grow: the hole of 8 is taken.
    assert peer.malloc("c", 3 * MIB) == start
    assert peer.malloc("d", 5 * MIB) == start + 3 * MIB
    assert peer.malloc("e", 5 * MIB) == start + 15 * MIB


def test_pages_are_taken_from_holes_when_memory_is_short():
    peer = TorchExpandable(capacity=60 * MIB)
    start = peer.malloc("a", 30 * MIB)
    peer.malloc("b", 10 * MIB)
    peer.free("a")
    # The page [0, 20) is free as a whole; [20, 30) shares a page with b.
    assert peer.malloc("c", 45 * MIB - 5 * MIB) == start + 40 * MIB
    assert peer.reserved == 60 * MIB
    # Its pages get memory again when there is some, from the lowest place on.
    peer.free("c")
    assert peer.malloc("d", 30 * MIB) == start + 40 * MIB
    peer.free("d")
    peer.free("b")
    peer.empty_cache()
    assert peer.reserved == 0
    assert peer.malloc("e", 60 * MIB) == start and peer.reserved == 60 * MIB


def test_a_hole_without_memory_is_used_again_together_with_what_is_beside_it():
    peer = TorchExpandable()
    start = peer.malloc("a", 30 * MIB)
    peer.malloc("b", 10 * MIB)
    peer.free("a")
    peer.empty_cache()
    assert peer.reserved == 20 * MIB
    assert peer.malloc("c", 30 * MIB) == start and peer.reserved == 40 * MIB


def test_more_than_the_capacity_is_refused():
    peer = TorchExpandable(capacity=30 * MIB)
    peer.malloc("a", 15 * MIB)
    with pytest.raises(MemoryError, match="15728640 bytes do not fit"):
        peer.malloc("b", 15 * MIB)
    assert peer.malloc("c", 5 * MIB) and peer.reserved == 20 * MIB
