"""Bodies of requests while they arrive: bounded in bytes, in time and in number."""

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request

from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError, overloaded

# All bodies together, in bodies of the greatest length.
LONGEST_AT_ONCE = 16
# A client that is refused gets so long to stop sending: closing before would lose the answer.
LINGER_S = 1.0


class _Arriving:
    """One body; `why` is set when it is given up."""

    def __init__(self, seconds: float):
        self.limit, self.held = asyncio.timeout(seconds), bytearray()
        self.why: ApiError | None = None

    def give_up(self, why: ApiError) -> None:
        self.why = self.why or why
        self.limit.reschedule(asyncio.get_running_loop().time())


class Bodies:
    """Those that arrive; belongs to one event loop.

    When there are too many, or too much of them, the one that has been awaited longest gives way.
    """

    def __init__(self, config: ServerConfig):
        self._config = config
        # In order of arrival.
        self._arriving: dict[_Arriving, None] = {}
        self._bytes = 0
        self._closed = False

    async def read(self, request: Request) -> bytearray:
        """The whole body; one that is too long is not kept, and not read to its end.

        Raises:
            ApiError: 413 too long, 408 too slow, 503 the server stops or has too many.
            ClientDisconnect: from Starlette; the client went away.
        """
        most, given = self._config.body_bytes, request.headers.get("content-length", "")
        announced = int(given) if given.isdecimal() and len(given) < 20 else 0
        held = None if announced > most else await self._bounded(request)
        if held is None:
            await self._linger(request)
            message = f"the body is longer than {most} bytes; send a shorter one"
            raise ApiError(413, message, close=True)
        return held

    def close(self) -> None:
        """The server stops: nothing is awaited any more."""
        self._closed = True
        for one in self._arriving:
            one.give_up(self._refusal("the server is shutting down"))

    async def _bounded(self, request: Request) -> bytearray | None:
        """A body, or None if it is too long."""
        if self._closed:
            raise self._refusal("the server is shutting down")
        one = _Arriving(self._config.body_s)
        try:
            async with one.limit:
                self._arriving[one] = None
                return await self._collect(request, one)
        except TimeoutError:
            slow = f"the body did not arrive within {self._config.body_s:g} seconds"
            raise (one.why or ApiError(408, slow, close=True)) from None
        finally:
            self._arriving.pop(one, None)
            self._bytes -= len(one.held)

    async def _collect(self, request: Request, one: _Arriving) -> bytearray | None:
        config = self._config
        self._make_room(len(self._arriving) > config.connections // 2)
        async for chunk in request.stream():
            one.held += chunk
            self._bytes += len(chunk)
            if len(one.held) > config.body_bytes:
                return None
            self._make_room(self._bytes > LONGEST_AT_ONCE * config.body_bytes)
        return one.held

    def _make_room(self, needed: bool) -> None:
        waiting = [one for one in self._arriving if one.why is None] if needed else []
        if waiting:
            waiting[0].give_up(self._refusal("too many requests are arriving"))

    async def _linger(self, request: Request) -> None:
        """Reads on and keeps nothing, for a while."""
        left = self._config.body_bytes
        with suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(LINGER_S):
                async for chunk in request.stream():
                    left -= len(chunk)
                    if left < 0:
                        return

    def _refusal(self, why: str) -> ApiError:
        return overloaded(why, self._config.retry_after_s, close=True)
