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
from loomax.agents.search.endpoint.traffic import Traffic
from loomax.agents.search.endpoint.wire import PATHS
from loomax.agents.search.engine_protocol import EngineError
from loomax.agents.search.errors import RateLimited, Rejected, ToolError
from loomax.agents.search.retrieval.client import retry_after_s

# An endpoint that does not say for how long.
PAUSE_S = 1.0
BRIEF = 300


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
            arguments = {"body": body, "held": held}
            result = await self._executor.run(arguments, "", lambda *_: None, lambda: urgent)
            if result.status != "ok":
                raise EngineError(f"{result.status}: {result.detail}")
            yield result.value
        finally:
            for response in held:
                await response.aclose()

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
            await self._refuse(response)
        return response

    async def _refuse(self, response: httpx.Response) -> None:
        """Raises what a status stands for."""
        code = response.status_code
        try:
            text = " ".join((await response.aread()).decode("utf-8", "replace").split())[:BRIEF]
        except httpx.HTTPError:
            text = ""
        message = f"HTTP {code} from {self._config.url}: {text}"
        wait = retry_after_s(response.headers.get("retry-after"), datetime.now(UTC))
        if code == 429 or (code == 503 and wait is not None):
            self._traffic.refuse(PAUSE_S if wait is None else wait)
            raise RateLimited(message, wait)
        if 400 <= code < 500 and code != 408:
            raise Rejected(message)
        raise ToolError(message)
