"""Every refusal names the value and the fix, and the named configurations are not refused."""

import math
from dataclasses import replace
from typing import Any

import jax
import pytest

from loomax.agents.pretrain.config import PretrainConfig
from loomax.agents.pretrain.presets import CONFIGS
from loomax.models.lm import count, shapes
from loomax.runtime.axes import MeshConfig

DEVICES = 8
DEBUG = CONFIGS["lm-debug"]


def changed(config: Any, path: str, value: Any) -> Any:
    """`config` with the field at a dotted path replaced; numbers pick from tuples."""
    name, _, rest = path.partition(".")
    if isinstance(config, tuple):
        index = int(name)
        return (*config[:index], changed(config[index], rest, value), *config[index + 1 :])
    if rest:
        value = changed(getattr(config, name), rest, value)
    return replace(config, **{name: value})


REFUSED = [
    ("stages", (), "stages is empty; give at least one stage"),
    ("stages.0.length", 0, "stages.0.length is 0; it must be at least 1"),
    ("stages.1.steps", 0, "stages.1.steps is 0; it must be at least 1 (or leave the stage out)"),
    ("stages.1.batch", 12, "stages.1.batch is 12; it must be a positive multiple of the 8 devices"),
    ("stages.0.accumulate", 0, "stages.0.accumulate is 0; it must be at least 1"),
    ("stages.0.accumulate", 2, "on 8 devices it must be a multiple of 16"),
    ("stages.0.lr", 0.0, "stages.0.lr is 0.0; it must be above 0 and finite"),
    ("stages.0.lr", float("nan"), "stages.0.lr is nan; it must be above 0"),
    ("stages.0.end_lr", 0.1, "stages.0.end_lr is 0.1; it must lie in 0..stages.0.lr (0.01)"),
    ("stages.1.theta", -1.0, "stages.1.theta is -1.0; it must be at least 0"),
    ("model.vocab", 1024, "model.vocab is 1024, but the tokenizer 'bytes' has 259 ids; use model."),
    ("data.tokenizer", "default", "model.vocab is 259, but the tokenizer 'default' has 1024 ids"),
    ("model.param_dtype", "bfloat16", "model.param_dtype is 'bfloat16'; trained parameters are"),
    ("model.kv_bits", 8, "model.kv_bits is 8; training has no cache: use 16"),
    ("optimiser.b2", 1.0, "optimiser.b2 is 1.0; it must be in [0, 1)"),
    ("optimiser.warmup", 3, "optimiser.warmup is 3; it must lie in 0..2, within the first stage"),
    ("optimiser.weight_decay", -0.1, "optimiser.weight_decay is -0.1; it must be at least 0"),
    ("optimiser.weight_decay", math.nan, "optimiser.weight_decay is nan; it must be at least 0"),
    ("optimiser.clip_norm", math.nan, "optimiser.clip_norm is nan; it must be above 0 and finite"),
    ("stages.0.lr", math.nan, "stages.0.lr is nan; it must be above 0 and finite"),
    ("stages.1.theta", math.inf, "stages.1.theta is inf; it must be at least 0 and finite"),
    ("score.every", -2, "score.every is -2; it must be at least 0"),
    ("seed", 10**20, "seed is 100000000000000000000: give 0 to"),
    ("optimiser.clip_norm", 0.0, "optimiser.clip_norm is 0.0; it must be above 0"),
    ("log_every", 0, "log_every is 0; it must be at least 1"),
    ("checkpoint_every", 0, "checkpoint_every is 0; it must be at least 1"),
    ("score.every", -1, "score.every is -1; it must be at least 0"),
    ("data.needles.share", 1.5, "data.needles.share is 1.5; it must lie in [0, 1]"),
    ("data.needles.most", 0, "data.needles.most is 0; it must be at least 1 (facts of a row)"),
    ("data.needles.weight", 0.0, "data.needles.weight is 0.0; it must be above 0 and finite"),
    ("data.held_out", 1.0, "data.held_out is 1.0; it must lie in [0, 1) (0 scores nothing)"),
    ("mesh", MeshConfig(fsdp=3), "does not fit 8 devices"),
]


def refusal(config: PretrainConfig) -> str:
    with pytest.raises(ValueError) as caught:
        config.validate(DEVICES)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    REFUSED,
    ids=[f"{path}={value}"[:40] for path, value, _ in REFUSED],
)
def test_what_is_refused(path, value, said):
    DEBUG.validate(DEVICES)
    assert said in refusal(changed(DEBUG, path, value))


def test_an_unknown_tokenizer_is_refused():
    data = replace(DEBUG.data)
    object.__setattr__(data, "tokenizer", "words")  # a file may hold what types forbid
    assert "data.tokenizer is 'words'; use bytes or default" in refusal(replace(DEBUG, data=data))


def test_devices_along_a_row_share_no_batch():
    config = changed(DEBUG, "mesh", MeshConfig(fsdp=2, context=4))
    changed(config, "stages.0.batch", 2).validate(DEVICES)
    said = refusal(changed(config, "stages.0.batch", 3))
    assert "stages.0.batch is 3; it must be a positive multiple of the 2 devices" in said


@pytest.mark.parametrize("name", CONFIGS)
def test_named_configurations_are_sound(name):
    assert CONFIGS[name].name == name
    for devices in (4, 8) if name == "yoco-3b-1m" else (1, 2, 4, 8):
        CONFIGS[name].validate(devices)


def test_full_size_is_the_papers():
    """Section 4.1: 2.83 billion parameters without embeddings; 1.6T tokens in 400k steps."""
    config = CONFIGS["yoco-3b"]
    (stage,) = config.stages
    held = shapes(config.model)
    assert round(count(held, embedding=False) / 1e9, 2) == 2.83
    assert {leaf.dtype.name for leaf in jax.tree.leaves(held)} == {"float32"}
    assert stage.steps == 400_000 and stage.length == 4096
    assert round(stage.tokens * stage.steps / 1e12, 1) == 1.7  # "4M" is 2**22
    assert 1.28e-5 < stage.end_lr < stage.lr == 3.2e-4


def test_length_extension_is_the_papers():
    """Section 4.2: lengths, bases, learning rates and tokens of the three stages."""
    stages = CONFIGS["yoco-3b-1m"].stages
    assert [stage.length for stage in stages] == [65_536, 262_144, 1_048_576]
    assert [stage.theta for stage in stages] == [640e3, 5e6, 80e6]
    assert [stage.lr for stage in stages] == [8e-5, 4e-5, 2e-5]
    tokens = [stage.tokens * stage.steps / 1e9 for stage in stages]
    assert [round(count, 1) for count in tokens] == [6.0, 4.0, 1.5]


def test_the_tiny_models_are_equally_large_and_equally_trained():
    yoco, transformer = CONFIGS["yoco-tiny"], CONFIGS["transformer-tiny"]
    sizes = [count(shapes(config.model)) for config in (yoco, transformer)]
    assert abs(sizes[0] / sizes[1] - 1) < 2e-3
    assert replace(yoco, name="", model=transformer.model) == replace(transformer, name="")
