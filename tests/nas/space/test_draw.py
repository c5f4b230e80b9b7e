"""Ends, random networks, mutation and crossover."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from loomax.nas.space.arch import validate
from loomax.nas.space.count import count
from loomax.nas.space.draw import (
    crossover,
    generator,
    largest,
    mutate,
    random_arch,
    smallest,
)
from loomax.nas.space.space import Space


def small(space: Space) -> Space:
    return replace(space, resolutions=space.resolutions[:1], stages=space.stages[:2])


def test_ends_have_the_extreme_costs(space, every_arch):
    macs = [count(space, arch).macs for arch in every_arch(space)]
    assert count(space, smallest(space)).macs == min(macs)
    assert count(space, largest(space)).macs == max(macs)


def test_random_networks_are_valid_and_repeat_by_seed(space):
    for net in range(40):
        arch = random_arch(space, generator(3, net))
        validate(space, arch)
        assert arch == random_arch(space, generator(3, net))
    assert len({random_arch(space, generator(3, net)) for net in range(40)}) > 20


def test_paths_of_different_lengths_give_different_numbers():
    streams = [
        generator(1, 2),
        generator(1, 2, 0),
        generator(1),
        generator(2, 1),
        generator(1, 0, 2),
    ]
    assert len({int(rng.integers(2**62)) for rng in streams}) == len(streams)


def test_random_choices_are_uniform_one_after_the_other(spaces):
    space = spaces["conv"]
    archs = [random_arch(space, generator(0, net)) for net in range(1000)]
    pairs = Counter((arch.stages[0].width, arch.stages[1].width) for arch in archs)
    expected = {(4, 4): 1 / 6, (4, 8): 1 / 6, (4, 12): 1 / 6, (8, 8): 1 / 4, (8, 12): 1 / 4}
    assert pairs.keys() == expected.keys()
    for pair, share in expected.items():
        assert abs(pairs[pair] / 1000 - share) < 4 * np.sqrt(share * (1 - share) / 1000)


def test_mutation_changes_nothing_at_rate_0_and_reaches_everything_at_rate_1(spaces, every_arch):
    space = small(spaces["conv"])
    arch = largest(space)
    assert mutate(space, arch, generator(0), rate=0.0) == arch
    reached = {mutate(space, arch, generator(0, net), rate=1.0) for net in range(400)}
    assert reached == set(every_arch(space))


def test_mutation_at_a_rate_redraws_that_share(spaces):
    space = spaces["conv"]
    arch = smallest(space)
    kept = sum(
        mutate(space, arch, generator(0, net), rate=0.3).resolution == arch.resolution
        for net in range(400)
    )
    assert abs(kept / 400 - (0.7 + 0.3 / 2)) < 0.06


def test_mutants_and_children_are_valid(space):
    for net in range(40):
        rng = generator(0, net)
        one, other = random_arch(space, rng), random_arch(space, rng)
        validate(space, mutate(space, one, rng, rate=0.5))
        child = crossover(space, one, other, rng)
        validate(space, child)
        assert child.resolution in (one.resolution, other.resolution)


def test_a_child_takes_whole_stages_but_for_widths_that_would_be_too_narrow(spaces):
    space = spaces["conv"]
    one, other = smallest(space), largest(space)
    children = {crossover(space, one, other, generator(0, net)) for net in range(200)}
    assert {one, other} <= children
    for child in children:
        width = 0
        for stage, *pair in zip(child.stages, one.stages, other.stages, strict=True):
            parents = [p.width for p in pair if replace(stage, width=p.width) == p]
            assert any(stage.width == of_parent or of_parent < width for of_parent in parents)
            width = stage.width


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_that_is_no_probability_is_refused(spaces, rate):
    with pytest.raises(ValueError, match=f"rate is {rate}: give a probability"):
        mutate(spaces["conv"], smallest(spaces["conv"]), generator(0), rate=rate)
