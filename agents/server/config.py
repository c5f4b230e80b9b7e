"""Limits of the server. Imports no JAX."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerConfig:
    """What clients may ask for.

    Args:
        model: the name that requests have to give.
        context: tokens of a prompt and what follows it, together.
        api_key: that requests to /v1 have to carry; "" asks for none.
        waiting: requests in the engine's queue, above which new ones are refused (429).
        samples: answers of one request at most.
        body_bytes: of a request at most.
        grace_s: seconds that running requests get when the server is told to stop.
        retry_after_s: seconds after which a client that was refused may come again.

    Raises:
        ValueError: a value is out of range.
    """

    model: str
    context: int
    api_key: str = ""
    waiting: int = 256
    samples: int = 16
    body_bytes: int = 16 * 2**20
    grace_s: float = 30.0
    retry_after_s: int = 5

    def __post_init__(self):
        if not self.model:
            raise ValueError("model is empty; give the name by which requests ask for it")
        for name in ("waiting", "samples", "body_bytes", "retry_after_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.context < 2:
            raise ValueError(f"context is {self.context}; it must be at least 2 tokens")
        if not 0 <= self.grace_s < math.inf:
            raise ValueError(f"grace_s is {self.grace_s}; it must be at least 0 and finite")
