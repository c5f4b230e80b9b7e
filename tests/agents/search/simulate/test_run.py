"""Simulated agents: closed forms of their latency, and what policies must share."""

from dataclasses import replace

import numpy as np
import pytest

from loomax.agents.search.simulate.config import AgentConfig, EngineConfig
from loomax.agents.search.simulate.run import simulate
from loomax.agents.search.simulate.script import draw
from loomax.agents.search.speculate.config import (
    LOSSLESS,
    NAIVE,
    PREDICT_VERIFY,
    TWO_PHASE,
    SpeculationConfig,
)

STEP = 0.01
IDLE = EngineConfig(lambda d, p: STEP, slots=64, chunk=4096)
# Three searches, a tool of exactly 2 s.
AGENT = AgentConfig(steps=(3, 3), tool_s=2.0, tool_sigma=0.0)
CERTAIN = replace(AGENT, hit_rates=(1.0,), accept_hit=1.0)
# One step of prefill, 150 tokens of reasoning and 10 of action; 20 of answer.
TURN, ANSWER = 161 * STEP, 171 * STEP
# One token of the action is forced. A draft beside the reasoning waits for the prefill of it.
ALONE, BESIDE = 10 * STEP, 11 * STEP


def speculating(**values):
    return SpeculationConfig("p", **values)


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
    report = alone(replace(CERTAIN, tool_s=tool_s), speculating(drafts=4))
    assert report.latency_s == pytest.approx(3 * max(TURN, BESIDE + tool_s) + ANSWER)
    # Four equal calls are one; the turn that answers has drafts too, and each searches.
    assert report.tool_calls == 3 + 4 and report.decoded == 3 * 160 + 170 + 4 * 4 * 9
    assert report.wasted == 4 * 9 and report.direct_hit == {0: 1.0, 1: 1.0, 2: 1.0}


def test_wrong_drafts_cost_calls_and_no_time_when_idle():
    report = alone(replace(AGENT, hit_rates=(0.0,)), speculating(drafts=4))
    assert report.latency_s == pytest.approx(3 * (TURN + 2.0) + ANSWER)
    assert report.tool_calls == 3 + 4 * 4 and report.wasted == 4 * 4 * 9


def test_the_aggressive_phase_saves_the_reasoning():
    report = alone(CERTAIN, speculating(aggressive=2))
    assert report.latency_s == pytest.approx(2 * (ALONE + 2.0) + TURN + 2.0 + ANSWER)
    assert report.decoded == 2 * 9 + 160 + 170


def test_wrong_aggressive_steps_are_repeated_with_reasoning():
    wrong = replace(AGENT, hit_rates=(0.0,), accept_miss=1.0)
    report = alone(wrong, speculating(aggressive=2))
    assert report.latency_s == pytest.approx(2 * (ALONE + 2.0) + 3 * (TURN + 2.0) + ANSWER)
    assert report.tool_calls == 5


def test_a_score_that_does_not_pass_costs_one_draft():
    report = alone(replace(CERTAIN, accept_hit=0.0), speculating(aggressive=3))
    assert report.latency_s == pytest.approx(ALONE + 3 * (TURN + 2.0) + ANSWER)


def test_drafts_without_fork_and_cache_prefill_the_context():
    engine = replace(IDLE, step_s=lambda d, p: STEP + 1e-4 * p, fork=False, prefix_cache=False)
    forked = replace(engine, fork=True)
    one = replace(CERTAIN, steps=(1, 1), tool_s=9.0)
    cost = [
        simulate(which, one, speculating(drafts=2), count=1, per_s=np.inf).latency_s
        for which in (forked, engine)
    ]
    # Forked drafts read the one token that is forced; others read the context before it, too.
    first = (2 * 201 - 2 * 1) * 1e-4
    answer = (2 * (201 + 160 + 250) - 2 * 1) * 1e-4
    assert cost[1] - cost[0] == pytest.approx(first + answer)


def test_drafts_are_not_made_where_they_do_not_pay():
    adaptive = speculating(drafts=4, adaptive=True)
    costly = replace(IDLE, step_s=lambda d, p: STEP * (1 + d))
    fast = replace(AGENT, tool_s=0.0)
    report = simulate(costly, fast, adaptive, count=3, per_s=np.inf)
    # The first turn tells what drafts cost; until then the tool is taken to be slow.
    assert report.decoded <= 3 * 160 + 170 + 4 * 9 and report.tool_calls <= 3 + 4 / 3
    assert alone(CERTAIN, adaptive).latency_s < alone(CERTAIN, NAIVE).latency_s


def test_the_shape_of_the_paper():
    """Verified drafts win when idle; under load they lose without the scheduler."""
    engine = EngineConfig(lambda d, p: 0.02 + 2e-4 * d + 5e-5 * p, slots=4)
    policies = (NAIVE, PREDICT_VERIFY, LOSSLESS, TWO_PHASE)

    def latency(per_s):
        return {
            policy.name: simulate(engine, AgentConfig(), policy, count=10, per_s=per_s).latency_s
            for policy in policies
        }

    idle, busy = latency(0.05), latency(2.0)
    assert max(idle["predict-verify"], idle["lossless"], idle["two-phase"]) < idle["naive"]
    assert busy["two-phase"] < busy["naive"] < busy["predict-verify"]
    assert busy["lossless"] < 1.02 * busy["naive"]


def test_drafts_are_right_as_often_as_their_chance():
    config = AgentConfig(steps=(2, 2), hit_rates=(0.7, 0.2))
    report = simulate(IDLE, config, speculating(drafts=1), count=80, per_s=np.inf)
    for step, rate in enumerate((0.7, 0.2)):
        # Four standard errors.
        assert report.direct_hit[step] == pytest.approx(rate, abs=4 * np.sqrt(0.25 / 80))


def test_tools_take_as_long_as_they_should():
    rng = np.random.default_rng(0)
    config = AgentConfig(tool_s=3.0, tool_sigma=0.5)
    seconds = np.log([search.tool_s for _ in range(400) for search in draw(config, rng)[1]])
    assert np.mean(seconds) == pytest.approx(np.log(3.0), abs=4 * 0.5 / np.sqrt(len(seconds)))
    assert np.std(seconds) == pytest.approx(0.5, rel=0.1)


def test_the_seed_decides():
    def report(seed):
        return simulate(IDLE, AgentConfig(), TWO_PHASE, count=8, per_s=1.0, seed=seed)

    assert report(1) == report(1) != report(2)


def test_a_small_cache_slows_and_stops_nobody():
    """Drafts are preempted, turns wait and are prefilled anew; every agent still answers."""
    engine = EngineConfig(lambda d, p: STEP + 1e-5 * p, slots=8)
    small = replace(engine, cache_tokens=4000)
    for policy in (NAIVE, TWO_PHASE):
        wide = simulate(engine, AgentConfig(), policy, count=12, per_s=4.0)
        tight = simulate(small, AgentConfig(), policy, count=12, per_s=4.0)
        assert tight.latency_s > wide.latency_s


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EngineConfig(lambda d, p: 1.0, slots=0), "slots 0 and chunk 512"),
        (lambda: EngineConfig(lambda d, p: 0.0), r"step_s\(1, 0\) is 0.0; a step takes more"),
        (lambda: EngineConfig(lambda d, p: 1.0, cache_tokens=0), "cache_tokens is 0"),
        (lambda: AgentConfig(steps=(0, 2)), r"steps is \(0, 2\)"),
        (lambda: AgentConfig(hit_rates=(0.5, 1.5)), "hit_rates holds 1.5; a chance is 0 to 1"),
        (lambda: AgentConfig(accept_hit=-0.1), "accept_hit holds -0.1"),
        (lambda: AgentConfig(tool_s=-1.0), "tool_s -1.0"),
        (lambda: AgentConfig(action=2), "action is 2; it needs 3 tokens"),
        (lambda: AgentConfig(prompt=0), "prompt 0 and observation 250"),
        (lambda: simulate(IDLE, AGENT, NAIVE, count=0, per_s=1.0), "0 agents at 1.0 per second"),
        (lambda: simulate(IDLE, AGENT, NAIVE, count=1, per_s=0.0), "1 agents at 0.0"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
