"""Configurations that are refused, and the named ones."""

from dataclasses import replace

import pytest

from loomax.agents.search.train.config import ExamConfig
from loomax.agents.search.train.presets import CONFIGS
from loomax.models.lm import count, shapes


def test_the_searcher_has_the_size_of_the_prototype():
    config = CONFIGS["searcher"]
    config.validate(2)
    assert 350_000 < count(shapes(config.model)) < 450_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lessons": ()}, "lessons is empty; give at least one lesson"),
        ({"log_every": 0}, "log_every"),
    ],
)
def test_what_a_run_cannot_do_is_refused(debug, change, message):
    with pytest.raises(ValueError, match=message):
        replace(debug, **change).validate(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ()}, r"lessons\.1\.tasks is empty; give at least one task"),
        ({"think": 1.5}, r"lessons\.1\.think is 1\.5; it must be 0 to 1"),
    ],
)
def test_what_a_lesson_cannot_do_is_refused(debug, change, message):
    first, second = debug.lessons
    with pytest.raises(ValueError, match=message):
        replace(debug, lessons=(first, replace(second, **change))).validate(1)


def test_the_vocabulary_is_that_of_the_world(debug):
    model = replace(debug.model, vocab=300)
    with pytest.raises(ValueError, match="model.vocab is 300, .* 10 sizes .* use model.vocab=357"):
        replace(debug, model=model).validate(1)


@pytest.mark.parametrize(
    "change", [{"chains": -1}, {"mixture": -1}, {"documents": 0}, {"slots": 0}]
)
def test_an_exam_that_cannot_be_is_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"exam.{name} is {value}; it must be at least"):
        ExamConfig(**change)
