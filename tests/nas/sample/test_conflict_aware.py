"""Conflict-aware steps: windows, floors, memory, preference, resuming; the published constants."""

from dataclasses import replace

import numpy as np
import pytest

from loomax.nas.sample.config import ConflictAwareConfig
from loomax.nas.sample.conflict_aware import make_sampler, sample_step
from loomax.nas.sample.graph import distinct_blocks
from loomax.nas.sample.memory import Memory, empty_memory, entries, record
from loomax.nas.sample.preference import preference, price_of
from loomax.nas.sample.walk import bank_at
from loomax.nas.space.count import count, macs
from loomax.nas.space.draw import smallest

PUBLISHED = ConflictAwareConfig()
FEW = ConflictAwareConfig(
    banks=(1e5, 1.5e5, 2.5e5), window=5e4, capacity=4, exploit=0.5, candidates=3
)


@pytest.fixture
def space(spaces):
    return spaces["hybrid"]


def floor_of(space, every_arch):
    """A net that rules out the narrower T1, shallower T1 and the smaller resolution."""
    chosen = smallest(space)
    return next(
        arch
        for arch in every_arch(space)
        if arch.resolution == 24
        and arch.stages[1].depth == 2
        and arch.stages[1].expand[0] == 1
        and arch.stages[0] == chosen.stages[0]
        and arch.stages[1].v_scale[0] == 1
    )


def run(sampler, steps: range, memory: Memory, epoch: int = 0):
    """Steps of a training loop that scores nets by their MACs."""
    found = []
    for number in steps:
        step = sample_step(sampler, memory, seed=5, step=number, epoch=epoch)
        for arch, new in zip(step.nets, step.explored, strict=True):
            if new:
                score = -price_of(sampler.space, arch, macs) / 1e5
                memory = record(sampler.space, FEW, memory, step.bank, arch, score)
        found.append(step)
    return found, memory


def test_published_constants():
    assert PUBLISHED.banks == tuple(m * 1e6 for m in (100, 200, 300, 400, 500, 700, 900, 1200))
    assert PUBLISHED.window == 20e6 and PUBLISHED.nets == 3 and PUBLISHED.candidates == 5
    assert [PUBLISHED.bank_capacity(bank) for bank in range(8)] == [150] * 4 + [50] * 4
    chances = [PUBLISHED.exploit_at(epoch) for epoch in (0, 98, 99, 199, 498, 499, 599)]
    assert np.allclose(chances, [0.2, 0.2, 0.35, 0.5, 0.8, 0.95, 1.0])


def test_nets_lie_in_the_window_of_the_walk_s_bank(space, every_arch):
    floor = floor_of(space, every_arch)
    hierarchy = ((1e5, smallest(space)), (2e5, floor))
    sampler = make_sampler(space, FEW, macs, hierarchy)
    steps, _ = run(sampler, range(25), empty_memory(space, FEW))
    assert {step.bank for step in steps} == {0, 1, 2}
    for number, step in enumerate(steps):
        assert step.bank == bank_at(5, number, 3)
        low = FEW.banks[step.bank]
        assert step.smallest == (floor if step.bank else smallest(space))
        for arch in step.nets:
            assert low <= count(space, arch).macs <= low + FEW.window
            if step.bank:  # not below the bank's smallest net
                assert arch.resolution == 24 and arch.stages[1].depth == 2


def test_resumed_steps_are_the_same(space):
    sampler = make_sampler(space, FEW, macs)
    whole, memory = run(sampler, range(20), empty_memory(space, FEW), epoch=150)
    first, saved = run(sampler, range(12), empty_memory(space, FEW), epoch=150)
    saved = Memory(*(np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for a in saved))
    rest, again = run(make_sampler(space, FEW, macs), range(12, 20), saved, epoch=150)
    assert first + rest == whole
    assert all(np.array_equal(a, b) for a, b in zip(memory, again, strict=True))
    assert not all(new for step in whole for new in step.explored)


def test_the_memory_is_used_only_when_it_is_more_than_half_full(space):
    config = replace(FEW, exploit=1.0, banks=FEW.banks[:1])
    sampler, memory = make_sampler(space, config, macs), empty_memory(space, config)
    for entry in range(3):
        step = sample_step(sampler, memory, seed=0, step=entry, epoch=0)
        assert step.explored == (True,) * 3
        memory = record(space, config, memory, 0, step.nets[0], -1.0)
    step = sample_step(sampler, memory, seed=0, step=3, epoch=0)
    assert step.explored == (False,) * 3
    assert set(step.nets) <= set(entries(space, memory, 0))
    plain = make_sampler(space, replace(config, performance_aware=False), macs)
    assert sample_step(plain, memory, seed=0, step=3, epoch=0).explored == (True,) * 3


def test_preference_is_for_width_over_depth(space, every_arch):
    """Of two nets that differ from the anchor by width or by depth, the wide one is preferred."""
    anchor = smallest(space)
    first, t1, t2 = anchor.stages
    wide = replace(anchor, stages=(first, replace(t1, width=12), replace(t2, width=16)))
    deep_t1 = replace(t1, depth=2, expand=t1.expand * 2, v_scale=t1.v_scale * 2)
    deep = replace(anchor, stages=(first, deep_t1, t2))
    costs = {
        name: count(space, arch).macs for name, arch in [("a", anchor), ("w", wide), ("d", deep)]
    }
    assert preference(space, anchor, anchor, macs) == 0
    assert preference(space, wide, anchor, macs) == costs["a"] - costs["w"] < 0
    assert preference(space, deep, anchor, macs) == costs["d"] - costs["a"] > 0


def test_exploring_takes_the_preferred_candidate(space):
    """With many candidates the nets score lower than without a preference."""
    config = replace(FEW, exploit=0.0, banks=FEW.banks[:1], candidates=8)
    memory = empty_memory(space, config)
    sampler = make_sampler(space, config, macs)
    for entry in range(2):
        arch = sample_step(sampler, memory, seed=0, step=entry, epoch=0).nets[0]
        memory = record(space, config, memory, 0, arch, -1.0)
    plain = make_sampler(space, replace(config, performance_aware=False), macs)

    def mean(sampler) -> float:
        steps = [sample_step(sampler, memory, seed=1, step=step, epoch=0) for step in range(10)]
        nets = [net for step in steps for net in step.nets]
        return float(np.mean([preference(space, net, smallest(space), macs) for net in nets]))

    assert mean(sampler) < mean(plain)


def test_any_additive_metric_is_a_complexity(space):
    """Seconds from a table, which also holds what the preference mixes."""
    table = {b: macs(b) * 1e-9 + 1e-5 for b in distinct_blocks(replace(space, growing=False))}
    config = replace(FEW, banks=(1.5e-4, 3e-4), window=1e-4, exploit=0.0)
    sampler, memory = make_sampler(space, config, table), empty_memory(space, config)
    for number in range(10):
        step = sample_step(sampler, memory, seed=0, step=number, epoch=0)
        low = config.banks[step.bank]
        for arch in step.nets:
            assert low <= price_of(space, arch, table.__getitem__) <= low + config.window
            memory = record(space, config, memory, step.bank, arch, -1.0)


def test_a_bank_without_architectures_is_refused(space):
    with pytest.raises(ValueError, match="bank 1.0: no architecture costs .*leave it out of banks"):
        make_sampler(space, replace(FEW, banks=(1.0,), window=2.0), macs, unit=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"banks": ()}, r"banks is \(\): give lower ends"),
        ({"banks": (2.0, 1.0)}, "banks is .*that grow"),
        ({"banks": (1.0, float("nan"))}, "banks is .*that grow"),
        ({"large_from": float("nan")}, "large_from is nan"),
        ({"window": 0.0}, "window is 0.0"),
        ({"window": float("nan")}, "window is nan"),
        ({"nets": 0}, "nets is 0: give 1 or more"),
        ({"exploit": 1.5}, "exploit is 1.5: give a value in"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ConflictAwareConfig(**fields)
