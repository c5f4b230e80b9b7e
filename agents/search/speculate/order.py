"""Level 2: the order inside the engine (SPAgent, arXiv 2511.20048, section IV-B), with ageing.

Short drafts go ahead of long reasoning. A class is worth `ageing_s` seconds of waiting a rank, so
nobody waits for what comes more than three times that later: order is by arrival plus rank times
`ageing_s`, which does not change while they wait. When pages run out, drafts go first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loomax.agents.search.engine_protocol import Kind

RANKS: dict[Kind, int] = {"draft": 0, "score": 0, "main": 1, "background": 3}
# Who is given up first when there are no pages.
SPARED: dict[Kind, int] = {"draft": 0, "score": 0, "background": 1, "main": 2}


@dataclass(frozen=True)
class Ticket:
    """A request in the queue or in a slot.

    Args:
        number: of arrival.
        arrived_s: when.
    """

    number: int
    arrived_s: float
    kind: Kind


@dataclass(frozen=True)
class OrderConfig:
    """How the queue is ordered.

    Args:
        ageing_s: seconds of waiting that are worth one rank; 0 is first come, first served.
        draft_share: of the slots that drafts may take while others wait.

    Raises:
        ValueError: a value is out of range.
    """

    ageing_s: float = 5.0
    draft_share: float = 0.25

    def __post_init__(self):
        if not 0 <= self.ageing_s < math.inf or not 0 < self.draft_share <= 1:
            raise ValueError(
                f"ageing_s {self.ageing_s} must be at least 0 and finite, draft_share "
                f"{self.draft_share} above 0 and at most 1"
            )


def key(config: OrderConfig, ticket: Ticket) -> tuple[float, int]:
    """The least one goes first."""
    return ticket.arrived_s + RANKS[ticket.kind] * config.ageing_s, ticket.number


def draft_slots(config: OrderConfig, slots: int) -> int:
    """Slots that drafts may take while others wait; one at least, or they would starve."""
    return max(1, int(config.draft_share * slots))


def admit(
    config: OrderConfig, waiting: Sequence[Ticket], running: Sequence[Ticket], slots: int
) -> list[Ticket]:
    """Who gets the free slots, in order."""
    drafts, free = sum(map(_short, running)), slots - len(running)
    allowed = draft_slots(config, slots) - drafts
    admitted, passed = [], []
    for ticket in sorted(waiting, key=lambda ticket: key(config, ticket)):
        if len(admitted) >= free:
            break
        if _short(ticket) and allowed < 1:
            passed.append(ticket)
            continue
        allowed -= _short(ticket)
        admitted.append(ticket)
    # Slots that nobody else wants are better used by drafts than left empty.
    return admitted + passed[: max(0, free - len(admitted))]


def victim(running: Sequence[Ticket]) -> Ticket:
    """Who gives its pages up: drafts first, among equals the last that came."""
    return min(running, key=lambda ticket: (SPARED[ticket.kind], -ticket.number))


def _short(ticket: Ticket) -> bool:
    return ticket.kind in ("draft", "score")
