"""Uniform sampling and the sandwich rule."""

import pytest

from loomax.nas.sample.rules import sandwich, uniform
from loomax.nas.space.arch import validate
from loomax.nas.space.draw import largest, smallest


def test_nets_are_a_function_of_seed_and_step(space):
    steps = [uniform(space, seed=1, step=step, nets=3) for step in range(5)]
    assert [uniform(space, seed=1, step=step, nets=3) for step in (4, 2)] == [steps[4], steps[2]]
    assert uniform(space, seed=2, step=0, nets=3) != steps[0]
    assert len(set(steps)) == 5
    for nets in steps:
        assert len(set(nets)) > 1
        for net in nets:
            validate(space, net)


def test_a_sandwich_has_both_ends(space):
    nets = sandwich(space, seed=0, step=3, nets=4)
    assert nets[:2] == (largest(space), smallest(space))
    assert nets[2:] == uniform(space, seed=0, step=3, nets=2)


def test_a_sandwich_of_one_is_refused(space):
    with pytest.raises(ValueError, match="nets is 1: a sandwich needs 2 or more"):
        sandwich(space, seed=0, step=0, nets=1)
