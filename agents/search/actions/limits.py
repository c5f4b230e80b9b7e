"""Rate limit and circuit breaker of one tool: small state machines that are told the time."""


class TokenBucket:
    """Lets `burst` calls through at once and `rate` a second in the long run.

    The generic cell rate algorithm: one number, the time at which the bucket is full again.

    Args:
        rate: calls per second; inf is no limit.
    """

    def __init__(self, rate: float, burst: int):
        self._interval = 1.0 / rate
        # One burst may be under way before a call has to wait.
        self._slack = (burst - 1) * self._interval
        self._full_at = self._closed_until = 0.0

    def delay(self, now: float) -> float:
        """Seconds until a call may start."""
        return max(0.0, self._full_at - self._slack - now, self._closed_until - now)

    def take(self, now: float) -> None:
        """Counts a call that starts."""
        self._full_at = max(self._full_at, now) + self._interval

    def close_until(self, moment: float) -> None:
        """No call may start before a moment, as the tool asked (Retry-After)."""
        self._closed_until = max(self._closed_until, moment)


class CircuitBreaker:
    """Refuses calls for a while after too many failures in a row, then lets single ones try.

    (Nygard, "Release it!", 2007)
    """

    def __init__(self, failures: int, pause_s: float):
        self._most, self._pause_s = failures, pause_s
        self._failures, self._trying = 0, False
        self._open_until: float | None = None

    def blocked(self, now: float) -> bool:
        """Whether no attempt may start."""
        return self._open_until is not None and (now < self._open_until or self._trying)

    def allow(self, now: float) -> bool:
        """Whether an attempt may start; one that does is followed by one of the methods below."""
        if self.blocked(now):
            return False
        self._trying = self._open_until is not None
        return True

    def succeeded(self) -> None:
        """The attempt worked."""
        self._failures, self._open_until, self._trying = 0, None, False

    def failed(self, now: float) -> None:
        """The attempt failed."""
        self._failures += 1
        if self._trying or self._failures >= self._most:
            self._open_until = now + self._pause_s
        self._trying = False

    def abandoned(self) -> None:
        """The attempt was given up and tells nothing about the tool."""
        self._trying = False
