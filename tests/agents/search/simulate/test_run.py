"""Simulated agents: closed forms of their latency, and what policies must share."""

from dataclasses import replace

import numpy as np
import pytest

from loomax.agents.search.simulate.agent import draw_searches
from loomax.agents.search.simulate.config import (
    NAIVE,
    PREDICT_VERIFY,
    TWO_PHASE,
    AgentConfig,
    EngineConfig,
    Policy,
)
from loomax.agents.search.simulate.run import simulate

STEP = 0.01
IDLE = EngineConfig(lambda d, p: STEP, slots=64, chunk=4096)
# Three searches, a tool of exactly 2 s.
AGENT = AgentConfig(steps=(3, 3), tool_s=2.0, tool_sigma=0.0)
CERTAIN = replace(AGENT, hit_rates=(1.0,), accept_hit=1.0)
# One step of prefill, 150 tokens of reasoning and 10 of action; 20 of answer.
TURN, ANSWER, DRAFT = 161 * STEP, 171 * STEP, 11 * STEP


def alone(agent, policy):
    """A simulation without company."""
    return simulate(IDLE, agent, policy, count=3, per_s=np.inf)


def test_a_naive_agent_does_one_thing_after_the_other():
    report = alone(AGENT, NAIVE)
    assert report.latency_s == pytest.approx(3 * (TURN + 2.0) + ANSWER)
    assert (report.tool_calls, report.decoded) == (3, 3 * 160 + 170)
    assert report.throughput == pytest.approx(1 / report.latency_s)
    assert report.source == "simulation"


@pytest.mark.parametrize("tool_s", [0.5, 2.0])
def test_right_drafts_hide_the_tool_behind_reasoning(tool_s):
    report = alone(replace(CERTAIN, tool_s=tool_s), Policy("p", drafts=4))
    assert report.latency_s == pytest.approx(3 * max(TURN, DRAFT + tool_s) + ANSWER)
    # Four equal calls are one.
    assert report.tool_calls == 3 and report.decoded == 3 * 200 + 170


def test_wrong_drafts_cost_calls_and_no_time_when_idle():
    report = alone(replace(AGENT, hit_rates=(0.0,)), Policy("p", drafts=4))
    assert report.latency_s == pytest.approx(3 * (TURN + 2.0) + ANSWER)
    assert report.tool_calls == 15


def test_the_aggressive_phase_saves_the_reasoning():
    report = alone(CERTAIN, Policy("p", aggressive=2))
    assert report.latency_s == pytest.approx(2 * (DRAFT + 2.0) + TURN + 2.0 + ANSWER)
    assert report.decoded == 2 * 10 + 160 + 170


def test_a_wrong_aggressive_step_is_repeated_with_reasoning():
    wrong = replace(AGENT, hit_rates=(0.0,), accept_miss=1.0)
    report = alone(wrong, Policy("p", aggressive=3))
    assert report.latency_s == pytest.approx(DRAFT + 2.0 + 3 * (TURN + 2.0) + ANSWER)
    assert report.tool_calls == 4


def test_a_score_that_does_not_pass_costs_one_draft():
    report = alone(replace(CERTAIN, accept_hit=0.0), Policy("p", aggressive=3))
    assert report.latency_s == pytest.approx(DRAFT + 3 * (TURN + 2.0) + ANSWER)


def test_drafts_without_fork_and_cache_prefill_the_context():
    engine = replace(IDLE, step_s=lambda d, p: STEP + 1e-4 * p, fork=False, prefix_cache=False)
    forked = replace(engine, fork=True)
    one = replace(CERTAIN, steps=(1, 1))
    cost = [
        simulate(which, one, Policy("p", drafts=2), count=1, per_s=np.inf).latency_s
        for which in (forked, engine)
    ]
    # Two drafts of the 200 tokens of the prompt instead of one token each.
    assert cost[1] - cost[0] == pytest.approx(2 * 199 * 1e-4)


def test_drafts_are_not_made_where_they_do_not_pay():
    fast = replace(AGENT, tool_s=0.0)
    adaptive = Policy("p", drafts=4, adaptive=True)
    costly = replace(IDLE, step_s=lambda d, p: STEP * (1 + d))
    report = simulate(costly, fast, adaptive, count=3, per_s=np.inf)
    assert report.decoded == 3 * 160 + 170 and report.tool_calls == 3
    assert alone(CERTAIN, adaptive).latency_s < alone(CERTAIN, NAIVE).latency_s


def test_the_shape_of_the_paper():
    """Verified drafts win when idle and lose under load; both phases with a scheduler win twice."""
    engine = EngineConfig(lambda d, p: 0.02 + 2e-4 * d + 5e-5 * p, slots=12)
    for per_s, order in [
        (0.05, ["two-phase", "predict-verify", "naive"]),
        (2.0, ["two-phase", "naive", "predict-verify"]),
    ]:
        reports = [
            simulate(engine, AgentConfig(), policy, count=40, per_s=per_s)
            for policy in (NAIVE, PREDICT_VERIFY, TWO_PHASE)
        ]
        assert [r.policy for r in sorted(reports, key=lambda r: r.latency_s)] == order


def test_drafts_are_right_as_often_as_their_chance():
    rng = np.random.default_rng(0)
    config = AgentConfig(steps=(2, 2), hit_rates=(0.7, 0.2))
    drawn = [draw_searches(config, rng) for _ in range(1500)]
    for step, rate in enumerate((0.7, 0.2)):
        for drafts in (1, 4):
            share = np.mean([any(searches[step].right(drafts)) for searches in drawn])
            chance = 1 - (1 - rate) ** drafts
            assert drawn[0][step].hit_chance(drafts) == pytest.approx(chance)
            # Four standard errors.
            assert share == pytest.approx(chance, abs=4 * np.sqrt(0.25 / 1500))


def test_the_seed_decides():
    def report(seed):
        return simulate(IDLE, AgentConfig(), TWO_PHASE, count=8, per_s=1.0, seed=seed)

    assert report(1) == report(1) != report(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EngineConfig(lambda d, p: 1.0, slots=0), "slots 0 and chunk 512"),
        (lambda: EngineConfig(lambda d, p: 0.0), r"step_s\(1, 0\) is 0.0; a step takes more"),
        (lambda: AgentConfig(steps=(0, 2)), r"steps is \(0, 2\)"),
        (lambda: AgentConfig(hit_rates=(0.5, 1.5)), "hit_rates holds 1.5; a chance is 0 to 1"),
        (lambda: AgentConfig(accept_hit=-0.1), "accept_hit holds -0.1"),
        (lambda: AgentConfig(tool_s=-1.0), "tool_s -1.0"),
        (lambda: Policy("p", drafts=9), "drafts is 9"),
        (lambda: simulate(IDLE, AGENT, NAIVE, count=0, per_s=1.0), "0 agents at 1.0 per second"),
        (lambda: simulate(IDLE, AGENT, NAIVE, count=1, per_s=0.0), "1 agents at 0.0"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
