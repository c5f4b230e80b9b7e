"""Runs the server until it is told to stop, and then until it is empty."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

import uvicorn

from loomax.agents.server.app import make_app
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.connection import Connection
from loomax.agents.server.gate import CLOSING_S, Gate
from loomax.agents.server.served import Served


class DrainingServer(uvicorn.Server):
    """Goes on answering while it empties itself, so that clients are told to come again.

    It has stopped within the grace, whatever its clients do. A second signal ends it at once.

    Args:
        started: called when it listens.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, started: Callable[[], None] | None):
        super().__init__(config)
        self.gate, self._on_start = gate, started
        self._draining: asyncio.Task | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets=None) -> None:
        """Remembers the loop that signals have to be handed to."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._on_start is not None:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called for SIGTERM and SIGINT."""
        if self._loop is None or self.gate.draining:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.gate.hurry)
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Begins to stop; has to be called in the server's loop."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As Uvicorn's, but nobody is waited for who does not read its answer."""
        clock = asyncio.get_running_loop()
        left = min(CLOSING_S, max(0.0, self.gate.deadline - clock.time()))
        cutting = clock.call_later(left, self._cut)
        await super().shutdown(sockets)
        cutting.cancel()

    def _cut(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _drain(self) -> None:
        await self.gate.drain()
        self.should_exit = True


def make_server(
    served: Served, config: ServerConfig, started: Callable[[], None] | None = None
) -> DrainingServer:
    """A server, to be run with sockets in the event loop that it is made in.

    Args:
        started: called when it listens.
    """
    gate = Gate(served.engine, config)
    settings = uvicorn.Config(
        make_app(served, config, gate),
        http=partial(Connection, limits=config),
        ws="none",
        lifespan="off",
        log_level="warning",
        timeout_keep_alive=config.idle_s,
        # The connections have been cut by then.
        timeout_graceful_shutdown=2,
    )
    return DrainingServer(settings, gate, started)


async def serve(
    served: Served,
    config: ServerConfig,
    sockets: Sequence[socket.socket],
    started: Callable[[], None] | None = None,
) -> None:
    """Serves until a signal.

    Args:
        sockets: to listen on; see `listen`.
        started: called when it listens.
    """
    await make_server(served, config, started).serve(list(sockets))
