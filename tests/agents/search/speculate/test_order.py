"""Level 2: order, ageing, the share of drafts, and who gives way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomax.agents.search.speculate.order import RANKS, OrderConfig, Ticket, admit, key, victim

CONFIG = OrderConfig(ageing_s=5.0, draft_share=0.25)
KINDS = ["draft", "score", "main", "background"]
queues = st.lists(st.tuples(st.floats(0, 100), st.sampled_from(KINDS)), max_size=20).map(
    lambda rows: [Ticket(number, at, kind) for number, (at, kind) in enumerate(rows)]
)


@given(queues)
def test_nobody_is_passed_by_who_comes_too_late(waiting):
    """The ageing bound: a rank is worth `ageing_s`, so nobody is passed after three of them."""
    order = sorted(waiting, key=lambda ticket: key(CONFIG, ticket))
    for place, ticket in enumerate(order):
        for ahead in order[:place]:
            ranks = max(0, RANKS[ticket.kind] - RANKS[ahead.kind])
            latest = ticket.arrived_s + ranks * CONFIG.ageing_s
            assert ahead.arrived_s <= latest + 1e-9  # Sums of times round.


@given(queues, st.integers(1, 12), st.integers(0, 6))
def test_slots_are_filled_and_drafts_keep_to_their_share(waiting, slots, busy):
    running = [Ticket(100 + n, 0.0, "draft" if n % 2 else "main") for n in range(min(busy, slots))]
    chosen = admit(CONFIG, waiting, running, slots)
    assert len(chosen) == min(len(waiting), slots - len(running))
    assert len(set(chosen)) == len(chosen) and set(chosen) <= set(waiting)
    short = sum(ticket.kind in ("draft", "score") for ticket in (*chosen, *running))
    left = [ticket for ticket in waiting if ticket not in chosen]
    long_left = [ticket for ticket in left if ticket.kind in ("main", "background")]
    started = any(ticket.kind in ("draft", "score") for ticket in chosen)
    if long_left and started:
        assert short <= max(1, slots // 4)


def test_drafts_go_first_until_reasoning_has_waited():
    main, draft, late = Ticket(1, 0.0, "main"), Ticket(2, 4.0, "draft"), Ticket(3, 6.0, "draft")
    assert admit(CONFIG, [main, draft, late], [], 2) == [draft, main]


def test_without_ageing_it_is_first_come_first_served():
    tickets = [Ticket(n, float(n), kind) for n, kind in enumerate(["background", "main", "draft"])]
    assert admit(OrderConfig(ageing_s=0.0), tickets, [], 3) == tickets


def test_drafts_give_way_first_and_the_latest_of_equals():
    tickets = [Ticket(n, 0.0, kind) for n, kind in enumerate(["draft", "main", "draft", "main"])]
    given_up = []
    while tickets:
        given_up.append(victim(tickets).number)
        tickets = [ticket for ticket in tickets if ticket.number not in given_up]
    assert given_up == [2, 0, 3, 1]


@pytest.mark.parametrize("values", [{"ageing_s": -1.0}, {"draft_share": 0.0}])
def test_what_is_refused(values):
    with pytest.raises(ValueError, match="ageing_s .* must be at least 0 and finite, draft_share"):
        OrderConfig(**values)
