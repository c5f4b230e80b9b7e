"""Runs the server until it is told to stop, and then until it is empty."""

import asyncio
from types import FrameType

import uvicorn

from loomax.agents.server.app import make_app
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.gate import Gate
from loomax.agents.server.served import Served


class DrainingServer(uvicorn.Server):
    """Goes on answering while it empties itself, so that clients are told to come again.

    A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate):
        super().__init__(config)
        self._gate = gate
        self._draining: asyncio.Task | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets=None) -> None:
        """Remembers the loop that signals have to be handed to."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGTERM and SIGINT."""
        if self._loop is None or self._gate.draining:
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Begins to stop; has to be called in the server's loop."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        await self._gate.drain()
        self.should_exit = True


async def serve(
    served: Served, config: ServerConfig, host: str, port: int, sockets: list | None = None
) -> None:
    """Serves until a signal.

    Args:
        sockets: to listen on, instead of `host` and `port`.
    """
    gate = Gate(served.engine, config)
    settings = uvicorn.Config(
        make_app(served, config, gate),
        host=host,
        port=port,
        ws="none",
        lifespan="off",
        log_level="warning",
        # Whoever still holds a connection open after the last answer is not waited for.
        timeout_graceful_shutdown=1,
    )
    await DrainingServer(settings, gate).serve(sockets)
