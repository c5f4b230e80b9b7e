"""Closed forms of the latency: a token each 10 ms, a search of 1 s."""

import pytest

from loomax.agents.search.speculate.config import PREDICT_VERIFY, SpeculationConfig

TOKEN, TOOL = 0.01, 1.0
# <think> hm hm hm </think> and <search> a </search> or the answer.
TURN, DRAFT = 8 * TOKEN, 2 * TOKEN


def test_a_naive_run_does_one_thing_after_the_other(play, plan):
    stage = play(plan(["a", "b"]))
    assert stage.run.answer == "done" and stage.run.end == "answered"
    assert stage.run.seconds == pytest.approx(2 * (TURN + TOOL) + TURN)
    assert stage.library.queries == ["a", "b"]


def test_a_hit_saves_the_tool_time_that_ran_beside_the_reasoning(play, plan):
    model = plan(["a", "b"], ["a </search>", "b </search>"])
    stage = play(model, PREDICT_VERIFY)
    assert stage.run.seconds == pytest.approx(2 * (DRAFT + TOOL) + TURN)
    assert [event.seconds for event in stage.all("hit")] == pytest.approx([TURN - DRAFT] * 2)
    # Four equal drafts make one call.
    assert stage.library.queries == ["a", "b"] and len(stage.all("right")) == 8


def test_a_tool_that_is_faster_than_the_reasoning_costs_nothing(play, plan):
    stage = play(plan(["a"], ["a </search>"]), PREDICT_VERIFY, seconds=0.03)
    assert stage.run.seconds == pytest.approx(2 * TURN)
    assert stage.all("hit")[0].seconds == pytest.approx(0.03)


def test_a_miss_costs_no_time(play, plan):
    stage = play(plan(["a"], [["x </search>", "y </search>", "x </search>", "a b </search>"]]),
                 PREDICT_VERIFY)  # fmt: skip
    assert stage.run.seconds == pytest.approx(TURN + TOOL + TURN)
    assert sorted(stage.library.queries) == ["a", "a b", "x", "y"]
    assert len(stage.all("miss")) == 1 and not stage.all("hit")


def test_one_right_draft_is_enough(play, plan):
    stage = play(plan(["a"], [["x </search>", "y </search>", "a </search>", "z </search>"]]),
                 PREDICT_VERIFY)  # fmt: skip
    assert stage.run.seconds == pytest.approx(DRAFT + TOOL + TURN)
    assert [event.number for event in stage.all("right")] == [3]


def test_equal_arguments_in_other_words_are_one_call(play, plan):
    stage = play(plan(["a  b"], [["a b </search>", "a   b </search>"] * 2]), PREDICT_VERIFY)
    assert stage.library.queries == ["a b"] and len(stage.all("right")) == 4


def test_unverified_steps_save_the_reasoning(play, plan):
    policy = SpeculationConfig("p", aggressive=2)
    model = plan(["a", "b", "c"], ["a </search>", "b </search>", "c </search>"])
    stage = play(model, policy)
    assert stage.run.seconds == pytest.approx(2 * (DRAFT + TOOL) + TURN + TOOL + TURN)
    assert stage.run.answer == "done" and len(stage.all("unverified")) == 2


def test_a_refused_draft_costs_its_own_time(play, plan):
    policy = SpeculationConfig("p", aggressive=2, threshold=0.9)
    stage = play(plan(["a"], [("a </search>", 0.5)]), policy)
    assert stage.run.seconds == pytest.approx(DRAFT + TURN + TOOL + TURN)
    assert stage.all("refused")[0].confidence == pytest.approx(0.5)
    assert stage.all("phase")[-1].detail == "off: confidence 0.50 is below 0.90"
