"""Faults end in the trace, and cancellation leaves nothing."""

import asyncio
from dataclasses import replace

import pytest

from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.actions.config import BudgetConfig
from loomax.agents.search.engine_protocol import EngineError
from loomax.agents.search.errors import MalformedOutput, RateLimited
from loomax.agents.search.loop.agent import SearchAgent
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.speculate.config import PREDICT_VERIFY, TWO_PHASE

ONCE = {"attempts": 1, "timeout_s": 2.0}


@pytest.mark.parametrize(
    ("found", "seconds", "detail"),
    [
        (None, 60.0, "timeout: no result within 2.000 s"),
        (lambda query: RateLimited("slow down"), 0.1, "rate_limited: RateLimited: slow down"),
        (lambda query: MalformedOutput("<html>"), 0.1, "malformed: MalformedOutput: <html>"),
        (lambda query: {"hits": 3}, 0.1, "malformed: MalformedOutput: a search gave dict"),
        (lambda query: KeyError("x"), 0.1, "error: KeyError: 'x'"),
    ],
)
@pytest.mark.parametrize("policy", [None, PREDICT_VERIFY])
def test_a_tool_that_fails_is_an_empty_result_and_in_the_trace(
    play, plan, found, seconds, detail, policy
):
    stage = play(plan(["a"], ["a </search>"]), policy, found=found, seconds=seconds, **ONCE)
    assert stage.run.answer == "done" and stage.run.steps == 1
    assert any(event.detail.startswith(detail) for event in stage.all("failed"))
    text = "".join(stage.engine.words.pieces(stage.run.transcript.tokens.tolist()))
    assert "Nothing was found." in text


def test_the_model_may_see_the_status(play, plan):
    config = LoopConfig(failure="status")
    stage = play(plan(["a"]), config=config, found=lambda query: KeyError("x"), **ONCE)
    text = "".join(stage.engine.words.pieces(stage.run.transcript.tokens.tolist()))
    assert "(Title: error) KeyError: 'x'" in text


def test_empty_results_and_documents_without_tokens_are_survived(play, plan):
    found = {"a": "", "b": "unsayable"}.__getitem__
    stage = play(plan(["a", "b"]), found=found)
    assert stage.run.answer == "done"
    assert [event.detail for event in stage.all("failed")] == [
        "malformed: there is no token for this"
    ]


def test_faults_of_the_model_are_corrected_and_counted(play, plan):
    stage = play(lambda text, sample: "no action", config=LoopConfig(faults=2))
    assert stage.run.end == "faults" and stage.run.detail.startswith("no_action")
    assert len(stage.all("fault")) == 3 and stage.run.steps == 0


@pytest.mark.parametrize(
    ("config", "end", "detail"),
    [
        (LoopConfig(steps=1), "steps", "1 steps and no answer"),
        (LoopConfig(context=600), "context", "tokens leave no room"),
        (LoopConfig(deadline_s=1.5), "deadline", "over 1.5 s"),
        (LoopConfig(turn=3, context=600, faults=0), "faults", "unclosed_tag"),
    ],
)
@pytest.mark.parametrize("policy", [None, PREDICT_VERIFY])
def test_limits(play, plan, config, end, detail, policy):
    words = "word " * 50
    stage = play(plan(list("abcdef"), [f"{q} </search>" for q in "abcdef"]), policy,
                 config=config, found=lambda query: words)  # fmt: skip
    assert stage.run.end == end and detail in stage.run.detail and stage.run.answer is None
    assert stage.all("end")[0].detail.startswith(end)


def test_the_budget_of_calls_is_kept(play, plan):
    config = LoopConfig(budget=BudgetConfig(calls=1, speculative=1))
    stage = play(plan(["a", "b"], ["a </search>", "b </search>"]), PREDICT_VERIFY, config=config)
    assert stage.run.answer == "done" and stage.library.queries == ["a"]
    assert [event.detail.split(":")[0] for event in stage.all("failed")] == ["ahead", "budget"]


def test_observations_are_cut_and_still_end(play, plan):
    stage = play(plan(["a"]), config=LoopConfig(observation=5), found=lambda query: "w " * 99)
    spans = [span for span in stage.run.transcript.spans if span.source == "observation"]
    last = "".join(stage.engine.words.pieces(spans[0].tokens[-1:]))
    assert len(spans[0].tokens) == 5 and last == "</information> "


@pytest.mark.parametrize(
    ("error", "end"), [(EngineError("out of pages"), "engine"), (RuntimeError("a bug"), "error")]
)
def test_an_engine_that_gives_up_ends_this_run_only(parts_of, plan, error, end):
    good = plan(["a"], ["a </search>"])

    def model(text, sample):
        return error if "bad" in text else good(text, sample)

    async def main():
        parts, engine, _ = parts_of(model, PREDICT_VERIFY)
        agent = SearchAgent(parts)
        runs = await asyncio.gather(*(agent.run(question) for question in ("bad", "good")))
        return runs, engine

    (bad, fine), engine = run_virtual(main())
    assert bad.end == end and str(error) in bad.detail
    assert fine.answer == "done" and not engine.held


def test_a_question_without_tokens(parts_of, plan):
    async def main():
        parts, _, _ = parts_of(plan([]))
        return await SearchAgent(parts).run("unsayable")

    run = run_virtual(main())
    assert (run.end, run.detail) == ("question", "there is no token for this")


def test_a_draft_that_hangs_holds_nobody_up(play, plan):
    stage = play(plan(["a"], [[None, "a </search>", RuntimeError("broken"), "b </search>"]]),
                 PREDICT_VERIFY)  # fmt: skip
    assert stage.run.seconds == pytest.approx(0.02 + 1.0 + 0.08)
    assert [event.detail for event in stage.all("draft_failed")] == ["RuntimeError('broken')"]
    assert [event.number for event in stage.all("dropped")] == [1, 3]


@pytest.mark.parametrize("policy", [None, PREDICT_VERIFY, replace(TWO_PHASE, adaptive=False)])
@pytest.mark.parametrize("moment", [0.0, 0.005, 0.015, 0.025, 0.05, 0.085, 0.5, 1.05, 1.3])
def test_cancellation_leaves_nothing(parts_of, plan, policy, moment):
    async def main():
        model = plan(["a", "b"], [["a </search>", "x </search>"] * 2, "b </search>"])
        parts, engine, library = parts_of(model, policy)
        seen = []
        task = asyncio.create_task(SearchAgent(parts).run("who ?", sink=seen.append))
        other = asyncio.create_task(SearchAgent(parts).run("else ?", name="other"))
        await asyncio.sleep(moment)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)
        assert not seen or seen[-1].kind == "cancelled"
        # The other run has what it needs, and nothing more.
        assert (await other).answer == "done"
        assert not engine.held
        await asyncio.sleep(0)
        assert not library.running and asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"turn": 0}, "turn is 0; it must be at least 1 token"),
        ({"steps": -1}, "steps -1 and faults 3"),
        ({"deadline_s": 0.0}, "deadline_s is 0.0"),
        ({"temperature": -1.0}, "temperatures -1.0 and 1.0"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LoopConfig(**values)


def test_equal_calls_of_two_runs_are_one(parts_of, plan):
    """The second one neither hit nor missed: its own drafts had no part in it."""

    async def main():
        parts, _, library = parts_of(plan(["a"]))
        agent = SearchAgent(parts)
        runs = await asyncio.gather(agent.run("one"), agent.run("two"))
        return runs, library

    runs, library = run_virtual(main())
    kinds = [event.kind for run in runs for event in run.events]
    assert library.queries == ["a"] and (kinds.count("miss"), kinds.count("reused")) == (1, 1)
