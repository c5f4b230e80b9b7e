"""One generation over HTTP: it ends with its answer, its client, or the server's patience."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Message, Receive, Scope, Send

from loomax.agents.search.engine_protocol import EngineError
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError, overloaded, unexpected
from loomax.agents.server.gate import Gate
from loomax.agents.server.metrics import Meter
from loomax.agents.server.reply import failure

GONE = "499"


class Exchange:
    """An ASGI response.

    The answer begins with the first part, so that what fails before has a status of its own. When
    the client goes away, or the server's grace is over, the generator is closed at once, and with
    it everything in the engine.

    Args:
        parts: of the body.
        stream: whether they are events.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        gate: Gate,
        meter: Meter,
        config: ServerConfig,
        *,
        stream: bool,
    ):
        self._parts, self._gate, self._meter, self._config = parts, gate, meter, config
        self._stream, self._begun = stream, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._gate.enter():
            work = asyncio.create_task(self._work(send))
            gone = asyncio.create_task(_gone(receive))
            late = asyncio.create_task(self._gate.expired.wait())
            status = GONE
            try:
                await asyncio.wait({work, gone, late}, return_when=asyncio.FIRST_COMPLETED)
                error = await self._outcome(work, gone)
                status = "200" if error is None else str(error.status)
                if error is not None:
                    await self._fail(error, scope, receive, send)
            except ConnectionError:
                status = GONE
            finally:
                for task in (work, gone, late):
                    task.cancel()
                await asyncio.gather(work, gone, late, return_exceptions=True)
                self._meter.end(status)

    async def _outcome(self, work: asyncio.Task, gone: asyncio.Task) -> ApiError | None:
        """How it went, after the work has ended or been ended.

        Raises:
            ConnectionError: the client is gone.
        """
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
            if gone.done():
                raise ConnectionError("the client went away")
            return overloaded("the server is shutting down", self._config.retry_after_s)
        error = work.exception()
        if error is None or isinstance(error, ApiError):
            return error
        if isinstance(error, EngineError):
            return overloaded(f"the engine: {error}", self._config.retry_after_s)
        if isinstance(error, OSError):
            raise ConnectionError("the client went away") from error
        return unexpected(error)

    async def _work(self, send: Send) -> None:
        async with aclosing(self._parts) as parts:
            async for part in parts:
                if not self._begun:
                    self._begun = True
                    await send(_start(self._stream))
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _fail(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._begun:
            await error.response()(scope, receive, send)
            return
        # The status has been sent; OpenAI's clients look for an event with an error.
        body = failure(error) if self._stream else b""
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _start(stream: bool) -> Message:
    kind = b"text/event-stream; charset=utf-8" if stream else b"application/json"
    headers = [(b"content-type", kind), (b"cache-control", b"no-cache")]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
