"""Phases, as the rules have them."""

import pytest

from loomax.agents.search.speculate.config import SpeculationConfig, dial
from loomax.agents.search.speculate.machine import (
    PhaseState,
    accepts,
    after_unverified,
    after_verified,
    leave,
    start,
)

BOTH = SpeculationConfig("p", drafts=2, aggressive=2, threshold=0.5, patience=2)
FINE = {"ok": True, "empty": False, "repeated": False}


@pytest.mark.parametrize(
    ("config", "phase"),
    [
        (BOTH, "aggressive"),
        (SpeculationConfig("p", drafts=1), "verified"),
        (SpeculationConfig("p"), "off"),
    ],
)
def test_where_a_run_starts(config, phase):
    assert start(config).phase == phase


def test_the_cap_ends_the_aggressive_phase():
    once = after_unverified(start(BOTH), BOTH, **FINE)
    twice = after_unverified(once, BOTH, **FINE)
    assert (once.phase, once.unverified) == ("aggressive", 1)
    assert (twice.phase, twice.unverified) == ("verified", 2)


@pytest.mark.parametrize("change", [{"ok": False}, {"empty": True}, {"repeated": True}])
def test_a_step_that_told_nothing_ends_it(change):
    assert after_unverified(start(BOTH), BOTH, **FINE | change).phase == "verified"


@pytest.mark.parametrize("kind", ["answer", "malformed", "failed"])
def test_only_calls_are_accepted(kind):
    assert accepts(BOTH, kind, 1.0) == f"the draft is no call: {kind}"


@pytest.mark.parametrize(
    ("confidence", "accepted"), [(0.5, True), (0.49, False), (float("nan"), False)]
)
def test_the_threshold(confidence, accepted):
    assert (accepts(BOTH, "call", confidence) == "") == accepted


def test_misses_in_a_row_turn_drafting_off():
    state = leave(start(BOTH), BOTH, "why")
    state = after_verified(state, BOTH, hit=False)
    state = after_verified(state, BOTH, hit=True)
    state = after_verified(state, BOTH, hit=False)
    assert state.phase == "verified"
    assert after_verified(state, BOTH, hit=False) == PhaseState(
        "off", 0, 2, "2 steps without a hit"
    )


def test_without_drafts_the_aggressive_phase_is_followed_by_nothing():
    config = SpeculationConfig("p", aggressive=1)
    assert leave(start(config), config, "why") == PhaseState("off", 0, 0, "why")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpeculationConfig(drafts=5), "drafts is 5"),
        (lambda: SpeculationConfig(aggressive=-1), "aggressive -1"),
        (lambda: SpeculationConfig(threshold=1.5), "threshold is 1.5; it must be 0 to 1"),
        (lambda: SpeculationConfig(patience=0), "patience 0"),
        (lambda: dial(1.1), "boldness is 1.1"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
