"""Verified speculation changes nothing but time, whatever the engine does."""

from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.agents.search.engine_protocol import EngineError
from loomax.agents.search.errors import Rejected
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.speculate.config import LOSSLESS, NAIVE, PREDICT_VERIFY, dial
from loomax.agents.search.speculate.hits import HitModel

QUERIES = ["red", "blue", "green", "grey cat", "lost"]
CONFIG = LoopConfig(steps=4, faults=2, deadline_s=1e6, observation=12)


def chance(*parts):
    """Random numbers that depend on nothing but what they are for."""
    return Random(sha256(repr(parts).encode()).digest())


def random_model(seed):
    def model(text, sample):
        rng = chance(seed, text, sample)
        if text.endswith("<search>"):
            if rng.random() < 0.2:
                return rng.choice([EngineError("preempted"), RuntimeError("broken"), None])
            if rng.random() < 0.1:
                return "<answer> no </answer>"
            return f"{rng.choice(QUERIES)} </search> and more"
        if rng.random() < 0.03:
            return EngineError("out of pages")
        thought = "hm " * rng.randint(0, 20)
        action = rng.choice(
            [f"<search> {query} </search> <answer> too late </answer>" for query in QUERIES]
            + ["<answer> yes </answer>", "<search> </search>", "no tags", "</think> <answer>"]
        )
        return f"<think> {thought} </think> {action}"

    return model


def text_of(stage):
    """The transcript in words: token ids are given in the order in which words come up."""
    spans = stage.run.transcript.spans
    return [(stage.engine.words.pieces(span.tokens), span.source) for span in spans]


def found(query):
    return {"lost": "", "grey cat": Rejected("no"), "green": "un" * 3}.get(query, f"{query} it is")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([LOSSLESS, PREDICT_VERIFY]))
def test_any_engine_gives_the_same_run(play, seed, timing, policy):
    tool = Random(timing)
    plain = play(random_model(seed), NAIVE, config=CONFIG, found=found, timing=seed)
    fast = play(
        random_model(seed),
        policy,
        config=CONFIG,
        found=found,
        timing=timing,
        seconds=lambda _: tool.choice([0.0, 0.5, 5.0]),
        prior=HitModel([0.9]),
    )
    assert text_of(fast) == text_of(plain)
    assert (fast.run.answer, fast.run.end, fast.run.detail) == (
        plain.run.answer,
        plain.run.end,
        plain.run.detail,
    )
    assert fast.calls == plain.calls and fast.run.steps == plain.run.steps


def test_the_property_is_about_something(play):
    """Among these runs are drafts, hits, failures of each kind and several ends."""
    kinds, ends = set(), set()
    for seed in range(25):
        stage = play(random_model(seed), PREDICT_VERIFY, config=CONFIG, found=found, timing=seed)
        kinds |= set(stage.kinds)
        ends.add(stage.run.end)
    assert {"right", "wrong", "dropped", "hit", "miss", "fault", "draft_failed", "failed"} <= kinds
    assert {"answered", "faults", "engine"} <= ends


def test_the_dial_at_zero_is_lossless():
    assert dial(0.0).aggressive == 0 and dial(0.0) == LOSSLESS


@pytest.mark.parametrize("boldness", [0.1, 0.4, 1.0])
def test_the_dial_gets_bolder(boldness):
    config, less = dial(boldness), dial(boldness / 2)
    assert config.aggressive >= less.aggressive >= 1 and config.threshold < less.threshold
