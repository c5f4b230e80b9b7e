"""Who may come in, and how the server empties itself before it stops."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from loomax.agents.search.engine_protocol import Engine
from loomax.agents.server.body import Bodies
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError, invalid, overloaded

# Of the grace: for what is still to be told to clients, and then for closing.
FAREWELL_S, CLOSING_S = 1.0, 0.5


class Gate:
    """Counts the requests that are inside; belongs to one event loop.

    Args:
        deadline: of the loop's clock, for anything that is still to be sent once it drains.
    """

    def __init__(self, engine: Engine, config: ServerConfig):
        self.draining = False
        self.deadline = math.inf
        self.bodies = Bodies(config)
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
            ApiError: 503 while the server empties itself, 429 if too many requests would wait, 400
                if they would even in an idle engine.
        """
        after, most = self._config.retry_after_s, self._config.waiting
        if self.draining:
            raise overloaded("the server is shutting down", after)
        load = self._engine.load()
        if samples > load.slots + most:
            raise invalid(
                f"{samples} answers are asked for; at most {load.slots + most} can be generated or "
                "wait at once",
                "n",
            )
        # Those that were just submitted wait until the next step, beside slots that are free.
        queue = load.waiting + samples - max(0, load.slots - load.running)
        if queue > most:
            raise ApiError(
                429,
                f"{load.waiting} requests wait and {samples} would be added, with "
                f"{max(0, load.slots - load.running)} free slots; at most {most} may wait",
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
        """Takes no more requests and waits for those inside; ends those that take too long.

        Returns at the deadline, even if somebody is left who does not read.
        """
        grace, clock = self._config.grace_s, asyncio.get_running_loop()
        self.draining = True
        self.bodies.close()
        self.deadline = clock.time() + grace - min(CLOSING_S, grace / 4)
        await self._emptied(self.deadline - min(FAREWELL_S, grace / 4))
        self.expired.set()
        await self._emptied(self.deadline)

    def hurry(self) -> None:
        """Ends at once what is inside."""
        self.deadline = min(self.deadline, asyncio.get_running_loop().time() + FAREWELL_S)
        self.expired.set()

    async def _emptied(self, deadline: float) -> None:
        """Returns when nobody is inside, or at the deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while self._inside:
                    await self._empty.wait()
