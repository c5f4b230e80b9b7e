"""A retriever elsewhere that speaks Search-R1's `/retrieve`."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from loomax.agents.search.errors import MalformedOutput, RateLimited, Rejected, ToolError
from loomax.agents.search.retrieval import wire
from loomax.agents.search.retrieval.document import Hit
from loomax.agents.search.retrieval.retriever import check_search


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


class RemoteRetriever:
    """Asks a `/retrieve` server; safe to call from several threads.

    Args:
        url: of the server, without `/retrieve`.
        version: names the server's corpus. The wire does not carry it: one that is left out is
            read from `/health` where the server has it, and is the URL where not.
        timeout_s: of one call.
        client: connections, which stay open; None makes some, which `close` closes.
    """

    def __init__(
        self,
        url: str,
        *,
        version: str | None = None,
        timeout_s: float = 10.0,
        client: httpx.Client | None = None,
    ):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url is {url!r}; it must start with http:// or https://")
        self._url, self._timeout_s = url.rstrip("/"), timeout_s
        self._own, self._client = client is None, client or httpx.Client()
        self._version = version or self._ask_version()

    @property
    def version(self) -> str:
        return self._version

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """See `Retriever`.

        Raises:
            ToolError: the server could not be reached, refused, or answered nonsense.
        """
        return self.search_many([query], k)[0]

    def search_many(self, queries: list[str], k: int) -> list[tuple[Hit, ...]]:
        """Several queries in one call."""
        for query in queries:
            check_search(query, k)
        body = {"queries": queries, "topk": k, "return_scores": True}
        try:
            answer = self._client.post(f"{self._url}/retrieve", json=body, timeout=self._timeout_s)
        except httpx.HTTPError as error:
            raise ToolError(f"{self._url}: {type(error).__name__}: {error}") from None
        _check_status(answer)
        try:
            held = answer.json()
        except (ValueError, RecursionError):
            raise MalformedOutput(f"{self._url} answered with what is not JSON") from None
        return [hits[:k] for hits in wire.read_answer(held, len(queries))]

    def close(self) -> None:
        """Closes the connections, unless they were given."""
        if self._own:
            self._client.close()

    def _ask_version(self) -> str:
        try:
            answer = self._client.get(f"{self._url}/health", timeout=self._timeout_s)
            version = answer.json()["version"] if answer.is_success else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError, RecursionError):
            version = None
        return version if isinstance(version, str) and version else self._url


def _check_status(answer: httpx.Response) -> None:
    code = answer.status_code
    wait = retry_after_s(answer.headers.get("retry-after"), datetime.now(UTC))
    # A server that is down answers 503 as well, but does not know until when.
    if code == 429 or (code == 503 and wait is not None):
        raise RateLimited(f"HTTP {code} from {answer.url}", wait)
    if 400 <= code < 500 and code != 408:
        raise Rejected(f"HTTP {code} from {answer.url}: {answer.text[:200]}")
    if code != 200:
        raise ToolError(f"HTTP {code} from {answer.url}")
