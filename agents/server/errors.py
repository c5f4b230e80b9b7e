"""Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}."""

import logging
from typing import Any

from starlette.responses import Response

from loomax.agents.search.json_text import write_json

LOG = logging.getLogger("loomax.server")
# Characters of a message and of a field's name: what a client sent is not sent back whole.
LONGEST, LONGEST_PARAM = 1000, 200
TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "overloaded_error",
}


class ApiError(Exception):
    """A request that gets an error for an answer.

    Args:
        status: of HTTP.
        param: the field that is at fault.
        code: for programs.
        retry_after_s: when to come again.
        close: whether the connection ends with the answer, since the request was not read whole.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
    ):
        message = message if len(message) <= LONGEST else f"{message[:LONGEST]}..."
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.param = None if param is None else param[:LONGEST_PARAM]
        self.retry_after_s, self.close = retry_after_s, close

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = TYPES.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> Response:
        """The answer."""
        after = self.retry_after_s
        headers = {} if after is None else {"Retry-After": str(after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.close:
            headers["Connection"] = "close"
        return json_response(self.body(), self.status, headers)


def json_response(
    body: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(write_json(body), status, headers, media_type="application/json")


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that is wrong and would be wrong again."""
    return ApiError(400, message, param=param, code=code)


def overloaded(message: str, retry_after_s: int, *, close: bool = False) -> ApiError:
    """A request that may work later."""
    return ApiError(503, message, code="overloaded", retry_after_s=retry_after_s, close=close)


def unexpected(error: BaseException) -> ApiError:
    """A defect: the log has it, the client its kind only."""
    LOG.error("a request failed", exc_info=error)
    return ApiError(500, f"internal error: {type(error).__name__}")
