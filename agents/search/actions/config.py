"""Settings of tools and budgets. Imports no JAX."""

import math
from dataclasses import dataclass
from typing import Literal

# read_only: may be speculated, shared, cached and repeated. repeatable: changes something, but
# doing it twice is doing it once, so it may be retried. effect: runs once, at most.
Safety = Literal["read_only", "repeatable", "effect"]
SAFETY = ("read_only", "repeatable", "effect")


@dataclass(frozen=True)
class ToolConfig:
    """How one tool is called. Times are seconds.

    Args:
        timeout_s: of one attempt.
        deadline_s: of all attempts together, waiting included.
        attempts: at most so many; an "effect" has one.
        backoff_s, backoff_most_s: attempt n waits a random time up to
            min(backoff_most_s, backoff_s 2^n).
        rate_per_s: calls a second in the long run; inf is no limit.
        burst: calls that may come at once.
        breaker_failures: after so many failed attempts in a row calls are refused at once.
        breaker_s: for so long; then one call may try.
        ttl_s: for so long a result is reused; 0 keeps none.

    Raises:
        ValueError: a value is out of range.
    """

    timeout_s: float = 10.0
    deadline_s: float = 30.0
    attempts: int = 3
    backoff_s: float = 0.2
    backoff_most_s: float = 5.0
    rate_per_s: float = math.inf
    burst: int = 10
    breaker_failures: int = 5
    breaker_s: float = 10.0
    ttl_s: float = 600.0

    def __post_init__(self):
        for name in ("timeout_s", "deadline_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it must be above 0 and finite")
        for name in ("backoff_s", "backoff_most_s", "breaker_s", "ttl_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; it must be at least 0 and finite")
        for name in ("attempts", "burst", "breaker_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.rate_per_s > 0:
            raise ValueError(f"rate_per_s is {self.rate_per_s}; it must be above 0 (inf: no limit)")


@dataclass(frozen=True)
class BudgetConfig:
    """What one request may spend.

    Args:
        calls: of the model itself.
        speculative: calls that are guessed ahead.

    Raises:
        ValueError: a value is negative.
    """

    calls: int = 32
    speculative: int = 64

    def __post_init__(self):
        for name in ("calls", "speculative"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")


@dataclass(frozen=True)
class DelayConfig:
    """A log-normal delay before each attempt, for benchmarks.

    Args:
        median_s: half of the delays are shorter.
        sigma: standard deviation of the delay's logarithm.

    Raises:
        ValueError: a value is out of range.
    """

    median_s: float = 1.0
    sigma: float = 0.5
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.median_s < math.inf or not 0 <= self.sigma < math.inf:
            raise ValueError(
                f"median_s {self.median_s} must be above 0, sigma {self.sigma} at least 0, both "
                "finite"
            )
