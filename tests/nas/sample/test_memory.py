"""The memory of good architectures."""

import jax
import numpy as np
import pytest

from loomax.nas.sample.config import ConflictAwareConfig
from loomax.nas.sample.memory import best, due, empty_memory, entries, exploit, record, rescore
from loomax.nas.space.draw import generator, random_arch

CONFIG = ConflictAwareConfig(
    (100.0, 600.0), window=20.0, capacity=4, large_from=500.0, large_capacity=2
)


@pytest.fixture
def case(spaces):
    """A space and some of its architectures, each other than the rest."""
    space = spaces["layerwise"]
    archs = dict.fromkeys(random_arch(space, generator(0, net)) for net in range(20))
    return space, list(archs)


def filled(space, archs, scores, bank=0):
    memory = empty_memory(space, CONFIG)
    for arch, score in zip(archs, scores, strict=False):
        memory = record(space, CONFIG, memory, bank, arch, score)
    return memory


def test_a_full_bank_keeps_the_best_it_saw(case):
    space, archs = case
    scores = [-3.0, -1.0, -2.0, -5.0, -0.5, -9.0, -2.5]
    memory = filled(space, archs, scores)
    kept = sorted(zip(entries(space, memory, 0), memory.scores[0].tolist(), strict=True), key=str)
    # -0.5 replaces -5, -9 replaces nothing, -2.5 replaces -3.
    expected = sorted([(archs[place], scores[place]) for place in (1, 2, 4, 6)], key=str)
    assert kept == expected
    assert memory.counts.tolist() == [4, 0]
    assert best(space, memory, 0) == archs[4] and best(space, memory, 1) is None


def test_large_banks_are_smaller(case):
    space, archs = case
    memory = filled(space, archs, [-3.0, -1.0, -2.0], bank=1)
    assert memory.counts.tolist() == [0, 2]
    assert memory.scores[1, :2].tolist() == [-2.0, -1.0]


def test_recording_leaves_the_old_memory_alone(case):
    space, archs = case
    old = filled(space, archs, [-3.0])
    copy = jax.tree.map(np.copy, old)
    record(space, CONFIG, old, 0, archs[1], -1.0)
    rescore(old, 0, np.array([-7.0]))
    assert jax.tree.all(jax.tree.map(np.array_equal, old, copy))


def test_shapes_and_types_never_change(case):
    space, archs = case
    empty = empty_memory(space, CONFIG)
    full = filled(space, archs, [-3.0] * 4)
    described = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), m) for m in (empty, full)]
    assert described[0] == described[1]


def test_new_scores(case):
    space, archs = case
    memory = rescore(filled(space, archs, [-3.0, -1.0]), 0, np.array([-0.25, -4.0]))
    assert best(space, memory, 0) == archs[0]
    for wrong in ([-1.0], [-1.0, np.nan]):
        with pytest.raises(ValueError, match="give 2 finite ones, in order"):
            rescore(memory, 0, np.array(wrong))


def test_exploiting_follows_the_softmax_of_the_scores(case):
    """Also from JAX arrays, which a checkpoint gives back."""
    space, archs = case
    scores = np.array([-3.0, -1.0, -2.0])
    memory = filled(space, archs, scores)
    restored = jax.tree.map(jax.numpy.asarray, memory)
    drawn = [exploit(space, memory, 0, generator(0, net)) for net in range(300)]
    assert drawn[:5] == [exploit(space, restored, 0, generator(0, net)) for net in range(5)]
    expected = np.exp(scores) / np.exp(scores).sum()
    for arch, share in zip(archs, expected, strict=False):
        assert abs(drawn.count(arch) / 300 - share) < 4 * np.sqrt(share * (1 - share) / 300)


def test_a_score_that_is_not_finite_is_refused(case):
    space, archs = case
    with pytest.raises(ValueError, match="score of bank 1 is nan: give a finite one"):
        record(space, CONFIG, empty_memory(space, CONFIG), 1, archs[0], float("nan"))


def test_when_banks_are_scored_again():
    """All at an epoch's start, then the current one three times (public code)."""
    found = {batch: due(CONFIG, batch, 103, 1) for batch in range(103)}
    assert {k: v for k, v in found.items() if v} == {0: (0, 1), 24: (1,), 49: (1,), 74: (1,)}
