"""Who gets a free slot, and who gives its pages up when there are none left."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from loomax.agents.search.speculate import order
from loomax.agents.search.speculate.order import OrderConfig, Ticket


@runtime_checkable
class Policy(Protocol):
    """What the scheduler asks."""

    def admit(
        self, waiting: Sequence[Ticket], running: Sequence[Ticket], slots: int
    ) -> Sequence[Ticket]:
        """Those of `waiting` who get the free slots, in order."""
        ...

    def victim(self, running: Sequence[Ticket]) -> Ticket:
        """Who of `running` gives way."""
        ...


class FirstCome:
    """First come, first served; the last one that came gives way."""

    def admit(
        self, waiting: Sequence[Ticket], running: Sequence[Ticket], slots: int
    ) -> Sequence[Ticket]:
        """See `Policy`."""
        ordered = sorted(waiting, key=lambda ticket: ticket.number)
        return ordered[: slots - len(running)]

    def victim(self, running: Sequence[Ticket]) -> Ticket:
        """See `Policy`."""
        return max(running, key=lambda ticket: ticket.number)


class Ordered:
    """Classes with ageing, and drafts that give way first: `agents/search/speculate/order`."""

    def __init__(self, config: OrderConfig | None = None):
        self.config = config or OrderConfig()

    def admit(
        self, waiting: Sequence[Ticket], running: Sequence[Ticket], slots: int
    ) -> Sequence[Ticket]:
        """See `Policy`."""
        return order.admit(self.config, waiting, running, slots)

    def victim(self, running: Sequence[Ticket]) -> Ticket:
        """See `Policy`."""
        return order.victim(running)
