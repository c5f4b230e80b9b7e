"""Who may come in, and how the server empties itself before it stops."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from loomax.agents.search.engine_protocol import Engine
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError, overloaded


class Gate:
    """Counts the requests that are inside; belongs to one event loop."""

    def __init__(self, engine: Engine, config: ServerConfig):
        self.draining = False
        self.expired = asyncio.Event()
        self._engine, self._config = engine, config
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def inside(self) -> int:
        """Requests that have not been answered to their end."""
        return self._inside

    def check(self, samples: int) -> None:
        """Refuses what cannot be taken now.

        Raises:
            ApiError: 503 while the server empties itself, 429 if too many requests wait.
        """
        after, most = self._config.retry_after_s, self._config.waiting
        if self.draining:
            raise overloaded("the server is shutting down", after)
        waiting = self._engine.load().waiting
        if waiting + samples > most:
            raise ApiError(
                429,
                f"{waiting} requests wait and {samples} would be added; at most {most} may wait",
                code="queue_full",
                retry_after_s=after,
            )

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Holds the server open for a request."""
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    async def drain(self) -> None:
        """Takes no more requests and waits for those inside; ends those that take too long."""
        self.draining = True
        try:
            async with asyncio.timeout(self._config.grace_s):
                await self._empty.wait()
        except TimeoutError:
            self.expired.set()
            await self._empty.wait()
