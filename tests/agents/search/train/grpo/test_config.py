"""What a run of GRPO refuses, and how it looks to the trainer of language models."""

from dataclasses import replace

import pytest

from loomax.agents.rl.loss_config import GRPOLossConfig
from loomax.agents.search.train.presets import CONFIGS
from loomax.runtime.axes import MeshConfig

TOKEN = GRPOLossConfig(level="token")


def test_a_run_starts_from_a_trained_searcher():
    config = CONFIGS["searcher-grpo"]
    with pytest.raises(ValueError, match='init is "", .* use init=RUN/model.safetensors'):
        config.validate(1)
    given = replace(config, init="x.safetensors")
    given.validate(1)
    assert given.pretraining.init == "x.safetensors"
    assert given.model == CONFIGS["searcher"].model


def test_drawn_parameters_are_asked_for(reinforced):
    reinforced.validate(1)
    assert reinforced.init == "draw" and reinforced.pretraining.init == ""


def test_the_learning_rate_falls_over_all_updates(reinforced):
    (stage,) = replace(reinforced, steps=7, minibatches=2).pretraining.stages
    assert stage.steps == 14 and stage.batch == reinforced.rollouts // 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"minibatches": 0}, "minibatches is 0"),
        ({"minibatches": 3}, "minibatches is 3; it must divide the 4 rollouts"),
        ({"loss": GRPOLossConfig()}, "loss.level is 'chunk'; .* use \"token\""),
        ({"loss": replace(TOKEN, entropy_coef=0.1)}, "loss.entropy_coef is 0.1; only 0"),
        ({"loss": replace(TOKEN, clip_low=2.0)}, "loss.clip_low=2.0"),
        ({"mesh": MeshConfig(context=2)}, "mesh.context is 2; .* use 1"),
        ({"lr": 0.0}, "lr is 0.0"),
    ],
)
def test_what_a_run_cannot_do_is_refused(reinforced, change, message):
    with pytest.raises(ValueError, match=message):
        replace(reinforced, **change).validate(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": 0}, "play.questions is 0"),
        ({"slots": 0}, "play.slots is 0"),
        ({"documents": 0}, "play.documents is 0"),
        ({"tasks": ()}, "play.tasks is empty"),
        ({"form": 0.5}, r"play.form is 0.5; it must lie in \[0, 0.5\)"),
    ],
)
def test_what_cannot_be_played_is_refused(reinforced, change, message):
    with pytest.raises(ValueError, match=message):
        replace(reinforced, play=replace(reinforced.play, **change)).validate(1)


def test_the_vocabulary_is_that_of_the_world(reinforced):
    model = replace(reinforced.model, vocab=300)
    with pytest.raises(ValueError, match="model.vocab is 300"):
        replace(reinforced, model=model).validate(1)
