"""One HTTP request to an endpoint, with another attempt where that may help."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from loomax.agents.search.actions.call import Tool
from loomax.agents.search.actions.execution import Executor
from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.endpoint.refusals import instead, refused, without
from loomax.agents.search.endpoint.traffic import Traffic
from loomax.agents.search.endpoint.wire import PATHS
from loomax.agents.search.engine_protocol import EngineError
from loomax.agents.search.errors import RateLimited, Rejected, ToolError
from loomax.agents.search.retrieval.client import retry_after_s

# An endpoint that does not say for how long.
PAUSE_S = 1.0
BRIEF = 300
MOST_BYTES = 65_536


class Streams:
    """Opens streams; the retries, the pause after a 429 and the circuit breaker are one tool's.

    Args:
        client: connections.
        seed: of the waits between attempts.
    """

    def __init__(
        self, config: EndpointConfig, traffic: Traffic, client: httpx.AsyncClient, seed: int
    ):
        self._config, self._traffic, self._client = config, traffic, client
        tool = Tool("endpoint", self._open, "repeatable", config.attempts)
        self._executor = Executor(tool, delay=None, seed=seed)
        # Parameters that the endpoint has refused; None leaves one out, a name takes its place.
        self._changes: dict[str, str | None] = {}

    @asynccontextmanager
    async def open(
        self, body: Mapping[str, Any], *, urgent: bool
    ) -> AsyncGenerator[httpx.Response, None]:
        """A response whose body has not been read.

        Args:
            urgent: whether it goes before others when the endpoint has asked for a pause.

        Raises:
            EngineError: no attempt worked.
        """
        # What an attempt opened is closed even if nobody was there to take it.
        held: list[httpx.Response] = []
        try:
            yield await self._opened(body, held, urgent)
        finally:
            for response in held:
                await response.aclose()

    async def _opened(
        self, body: Mapping[str, Any], held: list[httpx.Response], urgent: bool
    ) -> httpx.Response:
        """A response; asks once more for each parameter that the endpoint refuses."""
        changes = dict(self._changes)
        while True:
            asked, told = without(body, changes), []
            arguments = {"body": asked, "held": held, "told": told}
            result = await self._executor.run(arguments, "", lambda *_: None, lambda: urgent)
            if result.status == "ok":
                # Only now is it known that the endpoint meant them.
                self._changes |= changes
                return result.value
            status, text = told[-1] if told else (0, "")
            name = refused(asked, status, text)
            if result.status != "rejected" or name is None:
                raise EngineError(f"{result.status}: {result.detail}")
            changes[name] = instead(name, text) if name not in changes.values() else None

    async def _open(self, arguments: Mapping[str, Any]) -> httpx.Response:
        config = self._config
        headers = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
        request = self._client.build_request(
            "POST",
            config.url.rstrip("/") + PATHS[config.api],
            content=json.dumps(arguments["body"]),
            headers={"Content-Type": "application/json", **headers},
            # The first byte is waited for as long as an attempt may take.
            timeout=httpx.Timeout(config.silence_s, read=None),
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise ToolError(f"{config.url}: {type(error).__name__}: {error}") from None
        arguments["held"].append(response)
        if response.status_code != 200:
            text = await _beginning(response)
            arguments["told"].append((response.status_code, text))
            self._refuse(response, " ".join(text.split())[:BRIEF])
        return response

    def _refuse(self, response: httpx.Response, text: str) -> None:
        """Raises what a status stands for."""
        code = response.status_code
        message = f"HTTP {code} from {self._config.url}: {text}"
        wait = retry_after_s(response.headers.get("retry-after"), datetime.now(UTC))
        if code == 429 or (code == 503 and wait is not None):
            self._traffic.refuse(PAUSE_S if wait is None else wait)
            raise RateLimited(message, wait)
        if 400 <= code < 500 and code != 408:
            raise Rejected(message)
        raise ToolError(message)


async def _beginning(response: httpx.Response) -> str:
    """The text of an error, as far as it came and is worth reading."""
    held = bytearray()
    try:
        async for piece in response.aiter_bytes():
            held += piece
            if len(held) > MOST_BYTES:
                break
    except httpx.HTTPError:
        pass
    return held[:MOST_BYTES].decode("utf-8", "replace")
