"""The aggressive phase: what it may do, and what ends it."""

import pytest

from loomax.agents.search.engine_protocol import EngineError
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.speculate.config import SpeculationConfig

BOLD = SpeculationConfig("bold", aggressive=9)


def reasoned(stage):
    """Whether every turn of the model has its reasoning."""
    text = "".join(stage.engine.words.pieces(stage.run.transcript.tokens.tolist()))
    return text.count("<think>"), text


def test_the_final_answer_is_always_reasoned(play, plan):
    """Even if the model would answer without, and is sure."""
    stage = play(plan(["a"], ["a </search>", "</search>"]), BOLD)
    thoughts, text = reasoned(stage)
    assert stage.run.answer == "done" and thoughts == 1 and "</think> <answer> done" in text


@pytest.mark.parametrize("least", [1.0, 0.99])
def test_a_draft_that_is_an_answer_is_not_taken(play, plan, least):
    model = plan(["a"])

    def hasty(text, sample):
        if text.endswith("<search>"):
            return "x </search> <answer> hasty </answer>", least
        return model(text, sample)

    stage = play(hasty, SpeculationConfig("p", aggressive=1))
    # What comes after the action is not read.
    assert stage.run.answer == "done" and "hasty" not in reasoned(stage)[1]


def test_the_steps_are_capped(play, plan):
    queries = list("abcdefg")
    model = plan(queries, [f"{query} </search>" for query in queries])
    stage = play(model, SpeculationConfig("p", aggressive=2, drafts=1))
    assert stage.kinds.count("unverified") == 2
    assert stage.all("phase")[1].detail == "verified: 2 unverified steps are the most"


def test_the_last_steps_are_not_unverified(play, plan):
    queries = list("abcdefg")
    model = plan(queries, [f"{query} </search>" for query in queries])
    stage = play(model, BOLD, config=LoopConfig(steps=3))
    assert stage.kinds.count("unverified") == 2 and stage.run.end == "steps"
    assert stage.all("phase")[1].detail == "off: the last steps are verified"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (lambda query: "", "nothing was found"),
        (lambda query: RuntimeError("down"), "the tool failed"),
        (lambda query: ["no hit"], "the tool failed"),
    ],
)
def test_an_observation_that_tells_nothing_ends_it(play, plan, found, reason):
    stage = play(plan(["a", "b", "c"], ["a </search>"] * 3), BOLD, found=found)
    assert stage.kinds.count("unverified") == 1
    assert stage.all("phase")[1].detail == f"off: {reason}"


def test_turning_in_circles_ends_it(play, plan):
    stage = play(plan(["a", "b", "c", "d"], ["a </search>"] * 4), BOLD)
    assert stage.kinds.count("unverified") == 2
    assert stage.all("phase")[1].detail == "off: nothing new was found"


@pytest.mark.parametrize(
    ("guess", "event", "detail"),
    [
        ("</search>", "refused", "the draft is no call: malformed"),
        ("a", "refused", "the draft is no call: malformed"),
        (EngineError("preempted"), "draft_failed", "preempted"),
    ],
)
def test_a_draft_that_is_no_call_ends_it(play, plan, guess, event, detail):
    stage = play(plan(["a"], [guess]), BOLD)
    assert [found.detail for found in stage.all(event)] == [detail]
    assert stage.run.answer == "done" and stage.library.queries == ["a"]


def test_tools_have_to_be_named_to_be_called_without_reasoning(play, plan):
    stage = play(plan(["a"], ["a </search>"]), BOLD, config=LoopConfig(unverified=()))
    assert stage.all("refused")[0].detail == "search may not be called without reasoning"


def test_forced_tokens_are_not_what_the_model_wrote(play, plan):
    stage = play(plan([], ["a </search>"]), BOLD)
    words, transcript = stage.engine.words, stage.run.transcript
    written = "".join(words.pieces(transcript.tokens[transcript.written].tolist()))
    assert written == "a </search> <think> hm hm hm </think> <answer> done </answer> "
    assert "<search> a </search>" in reasoned(stage)[1]
