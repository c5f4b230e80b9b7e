"""Where an endpoint is and what it can do. Imports no JAX."""

from dataclasses import dataclass, field
from typing import Literal

from loomax.agents.search.actions.config import ToolConfig

Api = Literal["chat", "completions"]
Limit = Literal["max_tokens", "max_completion_tokens", "none"]
# A model takes longer than a tool, and asking again costs the endpoint a prompt.
ATTEMPTS = ToolConfig(
    timeout_s=60.0, deadline_s=120.0, attempts=4, backoff_s=0.5, backoff_most_s=8.0, ttl_s=0.0
)


@dataclass(frozen=True)
class EndpointConfig:
    """One endpoint.

    Args:
        url: up to and with /v1.
        model: its name there.
        api: "chat" calls tools, "completions" writes text with tags.
        logprobs: whether to ask for log-probabilities; without, no draft is taken unverified.
        temperature: whether to send the temperature; some models have but one.
        priority: whether the endpoint knows vLLM's `priority`, by which drafts go first.
        limit: the name by which it knows the limit of tokens; "none" sends no limit.
        slots: requests that it is believed to run at once.
        full: it is believed to be full when the time to the first token is so many times the best.
        silence_s: seconds between two chunks at most.
        attempts: how a request is opened: timeouts, retries with jitter, circuit breaker.

    Raises:
        ValueError: a value is out of range.
    """

    url: str
    model: str
    api_key: str = ""
    api: Api = "chat"
    logprobs: bool = True
    temperature: bool = True
    priority: bool = False
    limit: Limit = "max_tokens"
    slots: int = 16
    full: float = 3.0
    silence_s: float = 60.0
    attempts: ToolConfig = field(default_factory=lambda: ATTEMPTS)

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url is {self.url!r}; it must start with http:// or https://")
        if not self.model:
            raise ValueError("model is empty; give its name at the endpoint")
        if self.slots < 1 or not self.full > 1 or not self.silence_s > 0:
            raise ValueError(
                f"slots {self.slots} must be at least 1, full {self.full} above 1 and silence_s "
                f"{self.silence_s} above 0"
            )
