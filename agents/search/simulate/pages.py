"""Who gives way in the simulated engine when the KV cache is full."""

from collections.abc import Iterable

from loomax.agents.search.simulate.request import SimulatedRequest
from loomax.agents.search.speculate.order import victim


def used(held: Iterable[SimulatedRequest]) -> int:
    """Tokens in pages."""
    return sum(request.owned for request in held)


def make_room(
    held: list[SimulatedRequest], running: list[SimulatedRequest], needed: int, capacity: int
) -> list[SimulatedRequest]:
    """Frees pages until `needed` more tokens fit; returns requests that have to wait again.

    First drafts are given up, then the pages of ended turns are forgotten, then running requests
    wait and will be prefilled anew. The last one that alone does not fit is given up.
    """
    again = []
    while running and used(held) + needed > capacity:
        tickets = {request.ticket: request for request in running}
        chosen = tickets[victim(list(tickets))]
        idle = [request for request in held if request.ended and not request.evicted]
        if chosen.kind not in ("draft", "score") and idle:
            idle[0].evicted = True
            continue
        running.remove(chosen)
        if chosen.kind in ("draft", "score") or not running:
            chosen.evicted = True
            chosen.end(f"the cache of {capacity} tokens has no room for the request")
            continue
        chosen.evicted, chosen.shared, chosen.parent = True, 0, None
        chosen.prefill = len(chosen.tokens)
        again.append(chosen)
    return again
