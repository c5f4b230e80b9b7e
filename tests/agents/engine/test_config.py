"""Sizes that are refused, and the shapes that follow from those that are not."""

import pytest

from loomax.agents.engine import buckets
from loomax.agents.engine.config import EngineConfig, SpeculativeConfig
from loomax.agents.engine.device import check
from loomax.agents.engine.stops import Stops
from loomax.models.lm.presets import transformer_debug, yoco_debug


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slots": 0}, "slots is 0; it must be at least 1"),
        ({"chunks": (16, 4)}, r"chunks is \(16, 4\); give lengths"),
        ({"context": 64}, "none may be longer than the context of 64"),
        ({"context": 30}, "context 30 must be a multiple of page 16"),
        ({"snapshot_every": 20}, "snapshot_every is 20; give a multiple of page 16"),
        ({"contexts": (24,)}, r"contexts is \(24,\); give multiples of page 16"),
    ],
)
def test_wrong_sizes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EngineConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tokens": 0}, "tokens is 0 and layers 0: guess at least 1"),
        ({"ngram": (3, 2)}, r"ngram is \(3, 2\); give two bounds"),
    ],
)
def test_wrong_guessing_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SpeculativeConfig(**values)


def test_drafters_need_what_they_need():
    tiny, model = transformer_debug(), EngineConfig(speculative=SpeculativeConfig("model"))
    with pytest.raises(ValueError, match="a small model was not given"):
        check(tiny, model, None)
    with pytest.raises(ValueError, match="a small model was given; 'model' needs one"):
        check(tiny, EngineConfig(), tiny)
    other = yoco_debug()
    with pytest.raises(ValueError, match="vocabulary is 38, the model's 37"):
        check(tiny, model, type(other)(**{**vars(other), "vocab": 38}))
    deep = EngineConfig(speculative=SpeculativeConfig("self", layers=4))
    with pytest.raises(ValueError, match="4 layers cannot guess for a model of 4 self layers"):
        check(tiny, deep, None)
    looped = type(other)(**{**vars(other), "loops": 2})
    with pytest.raises(ValueError, match="loops is 2"):
        check(looped, EngineConfig(speculative=SpeculativeConfig("self")), None)


CONFIG = EngineConfig(slots=4, chunks=(8, 32), contexts=(64,), context=256)


@pytest.mark.parametrize(
    ("counts", "bucket"),
    [
        ([3], (1, 8)),
        ([9], (1, 32)),
        ([100], (1, 32)),
        ([3, 5], (4, 8)),
        # Eight tokens each for three are fewer than the first one's 32.
        ([100, 100, 100], (1, 32)),
        ([20, 8, 8, 8], (4, 8)),
    ],
)
def test_short_prompts_share_a_step(counts, bucket):
    assert buckets.prefill(CONFIG, counts) == bucket
    assert bucket in buckets.every(CONFIG)


def test_tables_come_in_the_lengths_that_are_asked_for():
    assert CONFIG.widths == (4, 16) and EngineConfig().widths == (128,)


def test_stops_without_a_tokenizer_are_refused():
    with pytest.raises(ValueError, match="the engine has no tokenizer"):
        Stops(("</search>",), (), None)


class Chunks:
    """Token i is a piece of text."""

    TEXT = ("ab", "</s", "ear", "ch>", "", "x</search")

    def pieces(self, ids):
        return [self.TEXT[token] for token in ids]


@pytest.mark.parametrize(
    ("tokens", "last"),
    [([0, 1, 2, 3, 0], 3), ([5, 0, 1, 4, 2, 3], 5), ([5, 3], None), ([0, 7], 1), ([5], None)],
)
def test_stops_are_found_wherever_tokens_end(tokens, last):
    stops = Stops(("</search>", ""), (7,), Chunks())
    found = [index for index, token in enumerate(tokens) if stops.last(token)]
    assert (found[0] if found else None) == last
