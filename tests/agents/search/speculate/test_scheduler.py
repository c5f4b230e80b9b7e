"""Level 1: what is learnt from the engine and the drafts, and what is decided from it."""

from dataclasses import replace

import numpy as np
import pytest

from loomax.agents.search.engine_protocol import Load, StepRecord
from loomax.agents.search.speculate.config import LOSSLESS, PREDICT_VERIFY
from loomax.agents.search.speculate.cost import CostModel
from loomax.agents.search.speculate.hits import Average, HitModel
from loomax.agents.search.speculate.scheduler import Speculator


class Idle:
    """An engine that is as busy as it is told."""

    def __init__(self, running=0, waiting=0, slots=16, drafts=0):
        self.found = Load(running, waiting, slots, 1000, 0.0, drafts)

    async def submit(self, tokens, sampling, *, kind="main", parent=None): ...

    async def fork(self, request, forced, sampling, *, at="prompt", kind="draft"): ...

    def halt(self, request): ...

    def abort(self, request): ...

    def load(self):
        return self.found

    def watch(self, listen):
        self.listen = listen


def speculator(step_s, config=LOSSLESS, prior=(0.5,), **load):
    """One that has seen an engine of this cost at every load."""
    engine = Idle(**load)
    made = Speculator(engine, config, HitModel(prior, strength=1e6))
    for decoding in range(1, 17):
        for prefilled in (0, 100):
            engine.listen(StepRecord(decoding, prefilled, step_s(decoding, prefilled)))
    made.reasoning.value, made.draft.value = 100.0, 10.0
    made.tool_s["search"].value = 1.0
    return made


def test_the_cost_of_a_step_is_found():
    rng, model = np.random.default_rng(0), CostModel()
    for _ in range(300):
        decoding, prefilled = int(rng.integers(1, 32)), int(rng.integers(0, 512))
        seconds = 0.02 + 3e-4 * decoding + 5e-5 * prefilled
        model.add(StepRecord(decoding, prefilled, seconds * rng.uniform(0.98, 1.02)))
    assert model.seconds(10, 100) == pytest.approx(0.02 + 3e-3 + 5e-3, rel=0.02)
    assert model.seconds(20) - model.seconds(10) == pytest.approx(3e-3, rel=0.15)


def test_steps_in_a_row_weigh_as_single_ones():
    one, many = CostModel(0.9), CostModel(0.9)
    for decoding, seconds in [(1, 1.0), (4, 2.0), (9, 2.5)]:
        for _ in range(5):
            one.add(StepRecord(decoding, 0, seconds))
        many.add(StepRecord(decoding, 0, seconds, 5))
    assert many.seconds(6) == pytest.approx(one.seconds(6))


def test_an_engine_that_changes_is_followed():
    model = CostModel(0.9)
    for seconds in (1.0, 5.0):
        for decoding in (1, 2, 3) * 50:
            model.add(StepRecord(decoding, 0, seconds * decoding))
    assert model.seconds(2) == pytest.approx(10.0, rel=0.01)


def test_nothing_seen_costs_nothing_and_an_idle_engine_shows_a_step():
    model = CostModel()
    assert model.seconds(5) == 0.0
    for _ in range(100):
        model.add(StepRecord(1, 0, 0.02))
    assert model.seconds(1) == pytest.approx(0.02) and model.seconds(9) == pytest.approx(
        0.02, rel=0.01
    )


def test_hit_rates_are_a_posterior_by_step():
    hits = HitModel((0.8, 0.2), strength=4.0, memory=1.0)
    assert hits.rate(0) == 0.8 and hits.rate(7) == 0.2
    for right in (True, False, False, False):
        hits.judge(5, right)
    assert hits.rate(1) == pytest.approx((0.2 * 4 + 1) / 8) and hits.rate(0) == 0.8


def test_old_drafts_are_forgotten():
    hits = HitModel((0.5,), memory=0.9)
    for right in [True] * 100 + [False] * 100:
        hits.judge(0, right)
    assert hits.rate(0) < 0.2


def test_averages():
    average = Average(7.0, weight=0.25)
    for value in (1.0, 3.0):
        average.add(value)
    assert average.value == 2.0
    for _ in range(50):
        average.add(10.0)
    assert average.value == pytest.approx(10.0, abs=1e-4)


def test_the_gain_is_the_formula_of_the_paper():
    """(1 - (1-p)^k) min(tool, reasoning ahead), less what longer steps cost everybody."""
    made = speculator(lambda d, p: 0.01 + 0.001 * d + 1e-5 * p, running=3)
    ahead = (100 - 10) * 0.014
    gain = made.gain(2, 0, "search", made._engine.load())
    assert gain == pytest.approx((1 - 0.5**2) * min(1.0, ahead) - 10 * 4 * 2 * 0.001, rel=0.01)


@pytest.mark.parametrize(
    ("step_s", "load", "drafts"),
    [
        # Nothing costs anything: as many as may be; a quarter of 16 slots is 4.
        (lambda d, p: 0.02, {}, 4),
        # Drafts of others take the share up, unless slots are free anyway.
        (lambda d, p: 0.02, {"running": 15, "drafts": 3}, 1),
        (lambda d, p: 0.02, {"running": 15, "drafts": 4}, 0),
        (lambda d, p: 0.02, {"running": 12, "drafts": 4}, 3),
        # A full engine makes somebody wait.
        (lambda d, p: 0.02 + 0.02 * d, {"running": 15, "waiting": 20}, 0),
    ],
)
def test_how_many_drafts(step_s, load, drafts):
    assert speculator(step_s, **load).drafts(0) == drafts


def test_fewer_drafts_as_they_cost_more():
    counts = [
        speculator(lambda d, p, each=each: 0.01 + each * d, running=3).drafts(0)
        for each in (0.0, 1e-3, 3e-3, 1e-2, 0.1)
    ]
    assert counts == sorted(counts, reverse=True) and counts[0] == 4 and counts[-1] == 0


def test_no_drafts_for_a_fast_tool_or_a_hopeless_step():
    fast = speculator(lambda d, p: 0.01 + 1e-4 * d)
    fast.tool_s["search"].value = 1e-4
    assert fast.drafts(0) == 0
    assert speculator(lambda d, p: 0.01 + 1e-4 * d, prior=(0.0,)).drafts(0) == 0


def test_calls_may_have_a_price():
    dear = speculator(lambda d, p: 0.02, replace(LOSSLESS, call_price_s=1.0), prior=(0.2,))
    assert dear.drafts(0) == 0


def test_without_level_1_all_are_made():
    assert speculator(lambda d, p: 9.0 * d, PREDICT_VERIFY, running=99).drafts(0) == 4


@pytest.mark.parametrize(("rate", "pays"), [(0.5, True), (0.05, False)])
def test_whether_an_unverified_step_pays(rate, pays):
    assert speculator(lambda d, p: 0.01, prior=(rate,)).unverified_pays(0) == pays


@pytest.mark.parametrize("prior", [(), (1.5,)])
def test_what_is_refused(prior):
    with pytest.raises(ValueError, match="give at least one rate, each 0 to 1"):
        HitModel(prior)
