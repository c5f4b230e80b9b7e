"""Many requests with random arrivals, aborts, halts, forks and preemptions, on too few pages."""

from dataclasses import replace

import pytest

from benchmarks._engine import Soak
from loomax.agents.engine.policy import FirstCome, Ordered
from loomax.agents.search.speculate.order import OrderConfig
from tests.agents.engine.conftest import SIZES, alone, engine_of, run

# Three requests of 60 tokens do not fit.
SMALL = replace(SIZES, pages=22)


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("attention", Ordered(OrderConfig(ageing_s=0.05))),
        ("gated_retention", FirstCome()),
    ],
)
def test_no_token_differs_and_no_page_is_lost(kind, policy):
    engine = engine_of(kind, SMALL, policy=policy)
    soak = Soak(engine, lambda tokens, most: alone(kind, tokens, most)[0], 37, 60)
    found = run(engine, lambda _: soak.run())
    assert (found.differences, found.leaked) == (0, 0)
    assert found.requests >= 50 and found.tokens > 300
    # What it is about did happen.
    assert min(found.aborted, found.preempted + found.given_up) > 0
