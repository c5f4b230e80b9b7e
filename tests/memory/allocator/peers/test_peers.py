"""All peers and the plan: never an overlap, counters that agree, refusals that name the buffer."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.memory.allocator.peers.bfc import BFC
from loomax.memory.allocator.peers.torch_caching import TorchCaching
from loomax.memory.allocator.peers.torch_expandable import TorchExpandable
from loomax.memory.allocator.planned import Planned
from loomax.memory.allocator.protocol import MIB
from loomax.memory.lifetimes.trace import Trace

MAKERS = {
    "torch": TorchCaching,
    "expandable": TorchExpandable,
    "bfc": BFC,
    "bfc-one-region": lambda capacity=512 * MIB: BFC(capacity, growth=False),
    "planned": lambda capacity=None: Planned(Trace(()), {}, capacity=capacity),
}
SIZES = (0, 1, 700, 4096, 300_000, MIB, MIB + 1, 3 * MIB, 9 * MIB, 10 * MIB, 25 * MIB)


class Checked:
    """An allocator beside a plain list of what is live."""

    def __init__(self, allocator):
        self.allocator = allocator
        self.live: dict[str, tuple[int, int]] = {}

    def malloc(self, id, size):
        try:
            low = self.allocator.malloc(id, size)
        except MemoryError:
            return
        high = low + size
        for other_low, other_high in self.live.values():
            assert high <= other_low or other_high <= low or low == high or other_low == other_high
        self.live[id] = low, high
        self.count()

    def free(self, id):
        self.allocator.free(id)
        del self.live[id]
        self.count()

    def count(self):
        wanted = sum(high - low for low, high in self.live.values())
        assert wanted <= self.allocator.allocated <= self.allocator.reserved
        if self.allocator.capacity is not None:
            assert self.allocator.reserved <= self.allocator.capacity


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_live_never_overlaps(name, data):
    limited = data.draw(st.booleans())
    checked = Checked(MAKERS[name](64 * MIB) if limited else MAKERS[name]())
    for step in range(data.draw(st.integers(1, 40))):
        if checked.live and data.draw(st.booleans()):
            checked.free(data.draw(st.sampled_from(sorted(checked.live))))
        else:
            checked.malloc(str(step), data.draw(st.sampled_from(SIZES)))
    for id in list(checked.live):
        checked.free(id)
    assert checked.allocator.allocated == 0


@pytest.mark.parametrize("name", MAKERS)
def test_many_events(name):
    draw = random.Random(0)
    checked = Checked(MAKERS[name](200 * MIB))
    for step in range(3000):
        if checked.live and draw.random() < len(checked.live) / 50:
            checked.free(draw.choice(list(checked.live)))
        else:
            checked.malloc(str(step), draw.choice(SIZES))
    for id in list(checked.live):
        checked.free(id)
    # All is one again: nearly all can be had at once.
    checked.malloc("all", 180 * MIB)
    assert checked.live or name == "bfc"


@pytest.mark.parametrize("name", MAKERS)
def test_broken_requests_are_refused(name):
    allocator = MAKERS[name]()
    allocator.malloc("a", 10)
    with pytest.raises(ValueError, match="buffer 'a' is live"):
        allocator.malloc("a", 10)
    with pytest.raises(ValueError, match="buffer 'b': size is -1"):
        allocator.malloc("b", -1)
    with pytest.raises(ValueError, match="buffer 'b' is not live"):
        allocator.free("b")
    with pytest.raises(ValueError, match="capacity is -1"):
        MAKERS[name](-1)
