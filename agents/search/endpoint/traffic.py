"""How busy an endpoint seems, from nothing but how long it lets one wait."""

import asyncio

from loomax.agents.search.engine_protocol import Load
from loomax.agents.search.speculate.hits import Average

# What is left of the best time after one more request: an endpoint may get slower for good.
FORGET = 1.01
# Differences below this are the network's.
FLOOR_S = 0.01


class Traffic:
    """The time to the first token, against the best one that was seen.

    Args:
        slots: requests that the endpoint is believed to run at once.
        full: it is believed to be full when the time is so many times the best.
    """

    def __init__(self, slots: int, full: float):
        self._slots, self._full = slots, full
        self._best_s: float | None = None
        self._recent: Average | None = None
        self._refused_until = 0.0
        self.tokens_per_s = 0.0

    def first(self, seconds: float) -> None:
        """A first token came after so many seconds."""
        best = seconds if self._best_s is None else self._best_s * FORGET
        self._best_s = min(best, seconds)
        if self._recent is None:
            self._recent = Average(seconds, weight=0.3)
        self._recent.add(seconds)

    def refuse(self, seconds: float) -> None:
        """The endpoint asked to be left alone for so long."""
        until = asyncio.get_running_loop().time() + seconds
        self._refused_until = max(self._refused_until, until)

    def load(self, running: int, drafts: int) -> Load:
        """What the scheduler reads: requests of others show as waiting ones."""
        return Load(
            running=running,
            waiting=self._waiting(),
            slots=self._slots,
            free_pages=2**31,
            tokens_per_s=self.tokens_per_s,
            drafts=drafts,
        )

    def _waiting(self) -> int:
        if asyncio.get_running_loop().time() < self._refused_until:
            return self._slots
        if self._recent is None or self._best_s is None:
            return 0
        best = max(self._best_s, FLOOR_S)
        over = (self._recent.value / best - 1) / (self._full - 1)
        return round(self._slots * min(1.0, max(0.0, over)))
