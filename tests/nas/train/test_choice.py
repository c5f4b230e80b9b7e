"""Nets of a step by rule, and their rounds on devices."""

import numpy as np
import pytest

from loomax.nas.sample.config import ConflictAwareConfig
from loomax.nas.space.count import count
from loomax.nas.space.digits import digits_space
from loomax.nas.space.draw import largest, smallest
from loomax.nas.train.choice import Choice, empty_memory_of, make_chooser
from loomax.nas.train.config import SamplerConfig
from loomax.nas.train.lineup import line_up
from loomax.nas.train.presets import DIGITS_BANKS

SPACE = digits_space()


@pytest.fixture(scope="module")
def choosers():
    rules = ("uniform", "sandwich", "complexity", "performance")
    return {rule: make_chooser(SPACE, SamplerConfig(rule, 4, DIGITS_BANKS)) for rule in rules}


def choose(chooser, step, memory=None):
    memory = empty_memory_of(SPACE, chooser.config) if memory is None else memory
    return chooser.choose(memory, seed=1, step=step, epoch=0)


def test_who_teaches(choosers):
    sandwich, uniform = choose(choosers["sandwich"], 3), choose(choosers["uniform"], 3)
    assert sandwich.archs[:2] == (largest(SPACE), smallest(SPACE)) and sandwich.teachers == 1
    assert uniform.teachers == len(uniform.archs) == 4
    banked = choose(choosers["complexity"], 3)
    assert banked.teachers == 3 and banked.archs[3] == smallest(SPACE)


def test_nets_of_a_bank_cost_as_much_as_it_says(choosers):
    seen = set()
    for step in range(30):
        choice = choose(choosers["complexity"], step)
        low = DIGITS_BANKS.banks[choice.bank]
        seen.add(choice.bank)
        costs = [count(SPACE, arch).macs for arch in choice.archs[:3]]
        assert all(low <= cost <= low + DIGITS_BANKS.window for cost in costs)
    assert len(seen) > 2


def test_only_explored_nets_are_remembered(choosers):
    chooser = choosers["performance"]
    memory = empty_memory_of(SPACE, chooser.config)
    choice = choose(chooser, 0, memory)
    kept = chooser.remember(memory, choice, [1.0, 2.0, 3.0, 4.0])
    assert choice.explored == (True, True, True, False)
    assert kept.counts[choice.bank] == 3
    np.testing.assert_array_equal(kept.scores[choice.bank, :3], [-1, -2, -3])
    assert choosers["sandwich"].remember((), choice, [1.0] * 4) == ()


def test_a_step_does_not_depend_on_steps_before_it(choosers):
    for chooser in choosers.values():
        assert choose(chooser, 17) == choose(chooser, 17)
        assert choose(chooser, 17) != choose(chooser, 18)


@pytest.mark.parametrize(
    ("devices", "runs", "places"),
    [
        (1, [[1], [1], [1], [1]], (0, 1, 2, 3)),
        (2, [[1, 0], [1, 1], [1, 0]], (0, 2, 3, 4)),
        (4, [[1, 0, 0, 0], [1, 1, 1, 0]], (0, 4, 5, 6)),
    ],
)
def test_students_wait_for_their_teacher(choosers, devices, runs, places):
    choice = choose(choosers["sandwich"], 0)
    rounds = line_up(SPACE, choice, devices)
    np.testing.assert_array_equal(rounds.lineup.runs, np.asarray(runs, bool))
    assert rounds.places == places and set(rounds.sides) == {8}
    flat = rounds.lineup.sizes.stages[2].width.reshape(-1)[list(places)]
    assert flat.tolist() == [arch.stages[2].width for arch in choice.archs]
    learns = rounds.lineup.learns.reshape(-1)[list(places)]
    assert learns.tolist() == [False, True, True, True]
    assert (
        rounds.lineup.teaches.sum() == 1 and not (rounds.lineup.learns & ~rounds.lineup.runs).any()
    )


def test_nobody_teaches_where_nobody_learns():
    nets = (smallest(SPACE), largest(SPACE))
    assert not line_up(SPACE, Choice(nets, 2), 1).lineup.teaches.any()


def test_an_empty_bank_is_refused():
    banks = ConflictAwareConfig(banks=(1e9,), window=1e6)
    with pytest.raises(ValueError, match="bank 1000000000.0: no architecture costs between"):
        make_chooser(SPACE, SamplerConfig("complexity", 4, banks))
