"""Parameter counts of the presets, and what wrong configurations are answered with."""

from dataclasses import replace

import pytest
from flax import nnx

from loomax.models.lm import (
    YOCO,
    DeltaConfig,
    LMConfig,
    Transformer,
    count,
    parameters,
    presets,
    shapes,
)
from loomax.models.lm.presets import PRESETS


def test_yoco_3b_has_the_published_size():
    """Section 4.1: 2.83 B besides the embeddings; by hand from the layer shapes."""
    width, inner, mlp = 3072, 24 * 128, 8192
    swiglu, norms = 3 * width * mlp, 2 * width
    retention = 5 * width * inner + width * 24
    cross = 2 * width * inner
    shared = 2 * width * 8 * 128 + width
    by_hand = 13 * (retention + cross + 2 * swiglu + 2 * norms) + shared + width
    params = shapes(presets.yoco_3b())
    assert count(params, embedding=False) == by_hand
    assert round(by_hand / 1e9, 3) == 2.829
    assert count(params) - by_hand == 2 * 100_288 * width


@pytest.mark.parametrize("size", ["3b", "tiny", "160m", "13b"])
def test_the_matched_transformer_is_as_large(size):
    ours = count(shapes(PRESETS[f"yoco-{size}"]()))
    theirs = count(shapes(PRESETS[f"transformer-{size}"]()))
    assert abs(ours / theirs - 1) < 0.005


@pytest.mark.parametrize(
    ("size", "millions"), [("160m", 160), ("400m", 400), ("1.4b", 1400), ("13b", 13000)]
)
def test_scaling_sizes_are_near_their_names(size, millions):
    """The names count the embedding once."""
    params = shapes(PRESETS[f"yoco-{size}"]())
    params.pop("head", None)
    assert abs(count(params) / 1e6 / millions - 1) < 0.06, count(params)


def test_modules_and_functions_agree_on_parameters():
    config = presets.yoco_debug()
    model = nnx.eval_shape(lambda: YOCO(config, nnx.Rngs(0)))
    assert count(parameters(model)) == count(shapes(config))


def test_a_module_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match="cross_layers is 0"):
        YOCO(presets.transformer_debug(), nnx.Rngs(0))
    with pytest.raises(ValueError, match="no Transformer"):
        Transformer(presets.yoco_debug(), nnx.Rngs(0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 5}, "kv_heads 2 does not divide heads 5"),
        ({"head_dim": 7}, "head_dim 7 must be even"),
        ({"mixer_heads": 0}, "needs mixer_heads and mixer_head_dim"),
        ({"chunk": 0}, "chunk is 0"),
        ({"vocab": 0}, "vocab is 0"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0; it must lie between 0 and 1"),
        ({"delta": DeltaConfig(0.3)}, "value_factor 0.3 times mixer_head_dim 8 must be a whole"),
        (
            {"kv_residual": True, "mixer": "gated_deltanet"},
            "kv_residual .* gated_deltanet",
        ),
    ],
)
def test_wrong_sizes_are_named(changes, words):
    base = presets.yoco_debug()
    fields = {name: getattr(base, name) for name in base.__dataclass_fields__}
    with pytest.raises(ValueError, match=words):
        LMConfig(**(fields | changes))


def test_an_unknown_mixer_is_named():
    # The type checker of the tests sees the wrong literal first.
    fields = dict.fromkeys(("vocab", "width", "mlp", "heads", "kv_heads", "head_dim"), 8)
    with pytest.raises((ValueError, TypeError)) as error:
        LMConfig(**fields, self_layers=1, mixer="gated_retension")
    assert "gated_retension" in str(error.value)


def test_every_family_has_the_epsilon_of_its_original():
    """YOCO, Gated DeltaNet and Llama 2 and 3: 1e-5; DeepSeek-V2 1e-6."""
    small = {"mla": 1e-6}
    for mixer in ("gated_retention", "sliding_window", "gated_deltanet"):
        assert presets.yoco_debug(mixer).epsilon == 1e-5
    for mixer in ("attention", "mla"):
        assert presets.transformer_debug(mixer).epsilon == small.get(mixer, 1e-5)
    assert replace(presets.yoco_debug(), norm_epsilon=1e-3).epsilon == 1e-3
