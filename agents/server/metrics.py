"""What Prometheus reads at /metrics."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loomax.agents.search.engine_protocol import Engine, Load

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """One server's figures, in a registry of their own.

    Args:
        engine: whose load is shown.
    """

    def __init__(self, engine: Engine):
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "loomax_requests", "Requests that ended.", ("route", "status"), registry=registry
        )
        self.prompt = Counter("loomax_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.generated = Counter(
            "loomax_generated_tokens", "Tokens that were generated.", registry=registry
        )
        self.first = Histogram(
            "loomax_time_to_first_token_seconds",
            "From a request to its first token.",
            buckets=SECONDS,
            registry=registry,
        )
        self.token = Histogram(
            "loomax_time_per_token_seconds",
            "Between the first token and the last, a token.",
            buckets=TOKEN_SECONDS,
            registry=registry,
        )
        self.whole = Histogram(
            "loomax_request_seconds",
            "From a request to its end.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        for name, text, read in LOADS:
            gauge = Gauge(f"loomax_{name}", text, registry=registry)
            gauge.set_function(lambda read=read: float(read(engine.load())))

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


LOADS: tuple[tuple[str, str, Callable[[Load], float]], ...] = (
    ("requests_running", "Requests in slots.", lambda load: load.running),
    ("requests_waiting", "Requests in the queue.", lambda load: load.waiting),
    ("drafts_running", "Drafts in slots.", lambda load: load.drafts),
    ("slots", "Slots.", lambda load: load.slots),
    ("free_pages", "Free pages of the cache.", lambda load: load.free_pages),
    ("tokens_per_second", "Generated of late.", lambda load: load.tokens_per_s),
)


class Meter:
    """One request's figures while it runs."""

    def __init__(self, metrics: Metrics, route: str):
        self._metrics, self._route = metrics, route
        self._start, self._first = time.monotonic(), 0.0
        self.tokens = 0

    def begin(self, prompt_tokens: int) -> None:
        """The engine has the request."""
        self._metrics.prompt.inc(prompt_tokens)

    def add(self, tokens: int) -> None:
        """Tokens came."""
        if tokens and not self.tokens:
            self._first = time.monotonic()
            self._metrics.first.observe(self._first - self._start)
        self.tokens += tokens
        self._metrics.generated.inc(tokens)

    def end(self, status: str) -> None:
        """The request ended.

        Args:
            status: of HTTP; 499 if the client went away.
        """
        now = time.monotonic()
        if self.tokens > 1:
            self._metrics.token.observe((now - self._first) / (self.tokens - 1))
        self._metrics.whole.labels(self._route).observe(now - self._start)
        self._metrics.requests.labels(self._route, status).inc()
