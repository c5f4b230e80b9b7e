"""A connection whose client is never waited for without a bound."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import overloaded


class Connection(H11Protocol):
    """Uvicorn's, with ends to what it waits for.

    A connection without a request, or with a part of a request's head, is closed after
    `idle_s`; one whose client leaves an answer unread after `unread_s`. When there are too many,
    the one that has been idle longest gives way; if none is, the new one is answered with 503.

    Args:
        limits: of the server.
    """

    def __init__(self, *args: Any, limits: ServerConfig, **given: Any):
        super().__init__(*args, **given)
        self._limits = limits
        self._idle: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def idle_since(self) -> float | None:
        """The loop's time; None while there is a request."""
        return None if self._idle is None else self._idle.when()

    def connection_made(self, transport: Any) -> None:
        """Called by the event loop."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        super().data_received(data)
        if self._busy():
            self._idle = _cancelled(self._idle)

    def on_response_complete(self) -> None:
        """Called when an answer has been written."""
        super().on_response_complete()
        if not self._busy():
            self._wait()

    def pause_writing(self) -> None:
        """Called when too much has not been read by the client."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._limits.unread_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Called when it has been."""
        self._unread = _cancelled(self._unread)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._idle, self._unread = _cancelled(self._idle), _cancelled(self._unread)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP, behind a request that is being answered, ends the connection."""
        if self.cycle is not None and self.cycle.response_started:
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        # Not `close`, which waits until everything has been read.
        self._idle = _cancelled(self._idle)
        self._idle = self.loop.call_later(self._limits.idle_s, self.transport.abort)

    def _make_room(self) -> None:
        others = [each for each in self.connections if each is not self and each.idle_since]
        if others:
            min(others, key=lambda each: each.idle_since).transport.abort()
            return
        error = overloaded("there are too many connections", self._limits.retry_after_s)
        answer = error.response()
        lines = [b"HTTP/1.1 503 Service Unavailable", b"connection: close"]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
