"""Configurations that are refused, and the named ones."""

from dataclasses import replace

import pytest

from loomax.agents.search.train.config import ExamConfig, ScoredConfig
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


def test_scores_are_learnt_from_a_trained_searcher():
    config = CONFIGS["searcher-score"]
    assert config.scores and not CONFIGS["searcher"].scores
    with pytest.raises(ValueError, match='init is "", .* use init=RUN/model.safetensors'):
        config.validate(1)
    given = replace(config, init="x.safetensors")
    given.validate(1)
    assert given.pretraining.init == "x.safetensors"
    assert replace(config, init="draw").pretraining.init == ""
    assert config.model == CONFIGS["searcher"].model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.01}, r"lessons\.1\.scored\.share is 0\.01; of a batch of 8 rows .* use 0\.5"),
        ({"share": 1.0}, r"lessons\.1\.scored\.share is 1\.0"),
        ({"share": -0.5}, r"lessons\.1\.scored\.share is -0\.5"),
        ({"questions": 0}, r"lessons\.1\.scored\.questions is 0"),
        ({"samples": 0}, r"lessons\.1\.scored\.samples is 0"),
        ({"weight": 0.0}, r"lessons\.1\.scored\.weight is 0\.0; it must be above 0 and finite"),
    ],
)
def test_what_scores_cannot_be_learnt_with_is_refused(debug, change, message):
    first, second = debug.lessons
    scored = ScoredConfig(**{"share": 0.5, **change})
    with pytest.raises(ValueError, match=message):
        replace(debug, init="draw", lessons=(first, replace(second, scored=scored))).validate(1)


def test_a_world_without_the_word_five_has_no_scores():
    config = CONFIGS["searcher-score-debug"]
    world = replace(config.world, sizes=5)
    with pytest.raises(ValueError, match=r"world\.sizes is 5; .* at least 6"):
        replace(config, world=world).validate(1)
