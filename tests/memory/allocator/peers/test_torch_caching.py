"""PyTorch's caching allocator: its rules, by cases worked out by hand."""

import pytest

from loomax.memory.allocator.peers.torch_caching import TorchCaching, segment_bytes
from loomax.memory.allocator.protocol import MIB


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
        (33 * MIB, 34 * MIB),
    ],
)
def test_lengths_of_segments(size, segment):
    assert segment_bytes(size) == segment
    peer = TorchCaching()
    peer.malloc("a", size)
    assert peer.reserved == segment


def test_requests_are_rounded_to_512_bytes():
    peer = TorchCaching()
    assert [peer.malloc(name, size) for name, size in [("a", 1), ("b", 513), ("c", 512)]] == [
        0,
        512,
        1536,
    ]
    assert peer.allocated == 2048 and peer.reserved == 2 * MIB


def test_small_and_large_requests_do_not_share():
    peer = TorchCaching()
    peer.malloc("a", 2 * MIB)
    peer.malloc("b", MIB)
    assert peer.reserved == 22 * MIB


def test_a_large_block_keeps_a_rest_of_up_to_a_mebibyte():
    peer = TorchCaching()
    # 13 MiB get a segment of 14 MiB; the rest of 1 MiB is not split off.
    peer.malloc("a", 13 * MIB)
    assert peer.allocated == 14 * MIB
    # 13 MiB - 512 too, and their rest of 1 MiB + 512 is.
    peer.malloc("b", 13 * MIB - 512)
    assert peer.allocated == 27 * MIB - 512 and peer.reserved == 28 * MIB


def test_a_small_block_is_split_from_512_bytes_on():
    peer = TorchCaching()
    peer.malloc("a", MIB)
    peer.malloc("b", MIB - 512)
    assert peer.malloc("c", 512) == 2 * MIB - 512
    assert peer.reserved == peer.allocated == 2 * MIB


def test_best_fit_takes_the_smallest_then_the_lowest():
    peer = TorchCaching()
    sizes = {"a": 6, "-": 2, "b": 4, "--": 2, "c": 4}
    at = {name: peer.malloc(name, size * MIB) for name, size in sizes.items()}
    assert peer.reserved == 20 * MIB and at["c"] == 14 * MIB
    for name in "abc":
        peer.free(name)
    # Holes of 6, 4 and, with the end of the segment, 6 MiB.
    assert peer.malloc("d", 3 * MIB) == at["b"]
    assert peer.malloc("e", 5 * MIB) == at["a"]


def test_neighbours_are_joined():
    peer = TorchCaching()
    for name in "abcd":
        peer.malloc(name, 5 * MIB)
    for name in "acb":
        peer.free(name)
    assert peer.malloc("e", 15 * MIB) == 0 and peer.reserved == 20 * MIB


def test_whole_segments_are_returned_when_memory_is_short():
    peer = TorchCaching(capacity=32 * MIB)
    peer.malloc("a", 10 * MIB)
    peer.malloc("b", 5 * MIB)
    peer.free("a")
    peer.free("b")
    assert peer.reserved == 30 * MIB  # cached
    peer.malloc("c", 12 * MIB)  # fits into the segment of 20 MiB
    assert peer.reserved == 30 * MIB
    peer.malloc("d", 12 * MIB)  # needs the one of 10 MiB back
    assert peer.reserved == 32 * MIB


def test_a_segment_in_use_is_not_returned():
    peer = TorchCaching(capacity=20 * MIB)
    peer.malloc("a", 5 * MIB)
    with pytest.raises(MemoryError, match="20971520 of 20971520 are reserved, 5242880 of them"):
        peer.malloc("b", 16 * MIB)
