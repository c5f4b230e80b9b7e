"""The queue before a rate limit."""

import asyncio
from collections.abc import Callable

from loomax.agents.search.actions.limits import TokenBucket

Urgent = Callable[[], bool]


class Gate:
    """Admits callers as a bucket allows: urgent ones first, then in order of arrival.

    Who is cancelled while waiting has used nothing up.

    Args:
        bucket: the rate limit.
    """

    def __init__(self, bucket: TokenBucket):
        self._bucket = bucket
        self._waiting: list[tuple[asyncio.Future, Urgent]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, urgent: Urgent) -> None:
        """Returns when the caller may start.

        Args:
            urgent: asked when there is a place, since a call may become urgent while it waits.
        """
        place = (asyncio.get_running_loop().create_future(), urgent)
        self._waiting.append(place)
        self._admit()
        try:
            await place[0]
        finally:
            if place in self._waiting:
                self._waiting.remove(place)

    def _admit(self) -> None:
        """Lets in whom the bucket allows, and comes back when it allows the next one."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting = [place for place in self._waiting if not place[0].done()]
        while self._waiting:
            wait = self._bucket.delay(loop.time())
            if wait > 0:
                self._timer = loop.call_later(wait, self._admit)
                return
            first = next((n for n, (_, urgent) in enumerate(self._waiting) if urgent()), 0)
            self._bucket.take(loop.time())
            self._waiting.pop(first)[0].set_result(None)
