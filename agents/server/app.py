"""The server as a Starlette application."""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from loomax.agents.search.json_text import read_json, shown
from loomax.agents.server import chat_wire, completion_wire
from loomax.agents.server.asked import Asked
from loomax.agents.server.chat_request import read_chat
from loomax.agents.server.completion_request import read_completion
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError, invalid, json_response, unexpected
from loomax.agents.server.exchange import GONE, Exchange
from loomax.agents.server.gate import Gate
from loomax.agents.server.metrics import Meter, Metrics
from loomax.agents.server.reply import Reply
from loomax.agents.server.served import Served

# Bytes of a body that is read on the event loop; a longer one is read in a thread.
SHORT = 4096
Read = Callable[[object, Served, ServerConfig], Asked]


def make_app(served: Served, config: ServerConfig, gate: Gate | None = None) -> Starlette:
    """`/v1/chat/completions`, `/v1/completions`, `/v1/models`, `/health` and `/metrics`.

    Args:
        served: the engine and what its tokens mean; the application does not start the engine.
        gate: through which the server is emptied before it stops.
    """
    server = _Server(served, config, gate or Gate(served.engine, config))
    routes = [
        Route("/v1/chat/completions", server.chat, methods=["POST"]),
        Route("/v1/completions", server.completion, methods=["POST"]),
        Route("/v1/models", server.models, methods=["GET"]),
        Route("/v1/models/{name:path}", server.model, methods=["GET"]),
        Route("/health", server.health, methods=["GET"]),
        Route("/metrics", server.metrics, methods=["GET"]),
    ]
    handlers: Any = {ApiError: _api_error, HTTPException: _http_error, Exception: _bug}
    return Starlette(routes=routes, exception_handlers=handlers)


class _Server:
    def __init__(self, served: Served, config: ServerConfig, gate: Gate):
        self._served, self._config, self._gate = served, config, gate
        self._metrics = Metrics(served.engine)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="loomax-server")
        self._created = int(time.time())

    async def chat(self, request: Request) -> Any:
        return await self._generate(request, "chat", read_chat, chat_wire)

    async def completion(self, request: Request) -> Any:
        return await self._generate(request, "completions", read_completion, completion_wire)

    async def models(self, request: Request) -> Response:
        self._authorize(request)
        return json_response({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._authorize(request)
        name = request.path_params["name"]
        if name != self._config.model:
            message = f"there is no model {shown(name)}; this server has {self._config.model!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return json_response(self._model())

    async def health(self, request: Request) -> Response:
        if self._gate.draining:
            return json_response({"status": "draining"}, status=503)
        if fault := self._served.fault():
            return json_response({"status": "failed", "detail": fault}, status=503)
        return json_response({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.page(), media_type=CONTENT_TYPE_LATEST)

    async def _generate(self, request: Request, route: str, read: Read, wire: Any) -> Any:
        meter = Meter(self._metrics, route)
        with self._gate.enter():
            try:
                self._authorize(request)
                asked = await self._read(await self._gate.bodies.read(request), read)
                self._gate.check(len(asked.samples))
            except ClientDisconnect:
                meter.end(GONE)
                return _nothing
            except Exception as error:
                known = error if isinstance(error, ApiError) else unexpected(error)
                meter.end(str(known.status))
                return known.response()
        reply = Reply(wire, asked, self._served, self._config.model, meter)
        parts = reply.events() if asked.stream else reply.whole()
        return Exchange(parts, self._gate, meter, self._config, stream=asked.stream)

    async def _read(self, held: bytearray, read: Read) -> Asked:
        """What a body asks for. Long ones share one thread, so that the event loop goes on."""

        def work() -> Asked:
            try:
                body = read_json(held)
            except ValueError as error:
                raise invalid(str(error)) from None
            return read(body, self._served, self._config)

        if len(held) <= SHORT:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def _authorize(self, request: Request) -> None:
        """Refuses a request without the key.

        Raises:
            ApiError: 401.
        """
        key = self._config.api_key
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = secrets.compare_digest(given.strip().encode(), key.encode())
        if key and (scheme.lower() != "bearer" or not right):
            message = "the API key is missing or wrong; send Authorization: Bearer KEY"
            raise ApiError(401, message, code="invalid_api_key")

    def _model(self) -> dict[str, Any]:
        return {
            "id": self._config.model,
            "object": "model",
            "created": self._created,
            "owned_by": "loomax",
            "max_model_len": self._config.context,
        }


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a client that has gone."""


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    """A path or a method that is not there."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    response = ApiError(error.status_code, message).response()
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    return ApiError(500, f"internal error: {type(error).__name__}").response()
