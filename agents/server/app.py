"""The server as a Starlette application."""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loomax.agents.server import chat_wire, completion_wire
from loomax.agents.server.asked import Asked
from loomax.agents.server.chat_request import read_chat
from loomax.agents.server.completion_request import read_completion
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError, invalid
from loomax.agents.server.exchange import Exchange
from loomax.agents.server.gate import Gate
from loomax.agents.server.metrics import Meter, Metrics
from loomax.agents.server.reply import Reply
from loomax.agents.server.served import Served


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
        self._created = int(time.time())

    async def chat(self, request: Request) -> Any:
        return await self._generate(request, "chat", read_chat, chat_wire)

    async def completion(self, request: Request) -> Any:
        return await self._generate(request, "completions", read_completion, completion_wire)

    async def models(self, request: Request) -> Response:
        self._authorize(request)
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._authorize(request)
        name = request.path_params["name"]
        if name != self._config.model:
            message = f"there is no model {name!r}; this server has {self._config.model!r}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        if self._gate.draining:
            return JSONResponse({"status": "draining"}, status_code=503)
        if fault := self._served.fault():
            return JSONResponse({"status": "failed", "detail": fault}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.page(), media_type=CONTENT_TYPE_LATEST)

    async def _generate(
        self,
        request: Request,
        route: str,
        read: Callable[[object, Served, ServerConfig], Asked],
        wire: Any,
    ) -> Any:
        meter = Meter(self._metrics, route)
        try:
            self._authorize(request)
            body = await _body(request, self._config.body_bytes)
            asked = read(body, self._served, self._config)
            self._gate.check(len(asked.samples))
        except ApiError as error:
            meter.end(str(error.status))
            raise
        reply = Reply(wire, asked, self._served, self._config.model, meter)
        parts = reply.events() if asked.stream else reply.whole()
        return Exchange(parts, self._gate, meter, self._config, stream=asked.stream)

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


async def _body(request: Request, most: int) -> object:
    """The JSON of a request; one that is too large is not read to its end."""
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) > most:
            raise ApiError(413, f"the body is longer than {most} bytes; send a shorter one")
    try:
        return json.loads(held)
    except (ValueError, RecursionError):
        raise invalid("the body is not JSON") from None


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    """A path or a method that is not there."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    response = ApiError(error.status_code, message).response()
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    return ApiError(500, f"internal error: {type(error).__name__}").response()
