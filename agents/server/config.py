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
        grace_s: seconds from being told to stop until the server has stopped, whatever its clients
            do; running requests get nearly all of them.
        connections: open at once at most; half of them may be with a body that has not arrived.
        idle_s: seconds that a connection may be without a request, or with a part of its head.
        body_s: seconds in which a body has to arrive.
        unread_s: seconds that a client may leave an answer unread.
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
    connections: int = 1024
    idle_s: float = 60.0
    body_s: float = 60.0
    unread_s: float = 60.0
    retry_after_s: int = 5

    def __post_init__(self):
        if not self.model:
            raise ValueError("model is empty; give the name by which requests ask for it")
        for name in ("waiting", "samples", "body_bytes", "connections", "retry_after_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.context < 2:
            raise ValueError(f"context is {self.context}; it must be at least 2 tokens")
        for name in ("idle_s", "body_s", "unread_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and finite")
        if not 0 <= self.grace_s < math.inf:
            raise ValueError(f"grace_s is {self.grace_s}; it must be at least 0 and finite")
