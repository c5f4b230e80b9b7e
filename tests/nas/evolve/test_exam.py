"""Splits are asked for in order, and once."""

import pytest

from loomax.nas.evolve.exam import Exam
from loomax.nas.space.draw import generator, largest, random_arch, smallest


@pytest.fixture
def archs(latency):
    space = latency.space
    return [smallest(space), largest(space), random_arch(space, generator(5))]


def test_each_network_is_evaluated_once_in_batches(latency, archs, judge):
    evaluate = judge(latency.space)
    exam = Exam(evaluate, batch=2)
    first = exam.search([*archs, archs[0]])
    assert first == [evaluate.score(arch) for arch in [*archs, archs[0]]]
    assert exam.search(archs[::-1]) == first[2::-1]
    assert len(evaluate.asked) == 3


def test_the_order_is_enforced(latency, archs, judge):
    exam = Exam(judge(latency.space))
    with pytest.raises(ValueError, match="test the winner of the validated front"):
        exam.test(archs[0])
    exam.search(archs[:2])
    with pytest.raises(ValueError, match="networks that were searched"):
        exam.validate(archs)
    with pytest.raises(ValueError, match="at least one"):
        exam.validate([])
    exam.validate(archs[:1])
    with pytest.raises(ValueError, match="a second choice would overfit it"):
        exam.validate(archs[:1])
    with pytest.raises(ValueError, match="validated already: search in another exam"):
        exam.search(archs)
    with pytest.raises(ValueError, match="test the winner"):
        exam.test(archs[1])
    exam.test(archs[0])
    with pytest.raises(ValueError, match="it is for one network"):
        exam.test(archs[0])


def test_what_an_evaluation_must_give(archs):
    with pytest.raises(ValueError, match="1 scores of 3 networks"):
        Exam(lambda archs, split: [0.5]).search(archs)
    with pytest.raises(ValueError, match="give a finite one for each"):
        Exam(lambda archs, split: [float("nan")] * 3).search(archs)
    with pytest.raises(ValueError, match="batch is 0"):
        Exam(lambda archs, split: [], batch=0)
