"""One execution of a tool call: its place in the rate limit, attempts, and what they came to.

An execution always ends by the tool's deadline, also if the tool ignores its cancellation.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from loomax.agents.search.actions.call import Status, Tool
from loomax.agents.search.actions.config import DelayConfig
from loomax.agents.search.actions.delay import backoff_delay_s, generator, injected_delay_s
from loomax.agents.search.actions.events import Kind
from loomax.agents.search.actions.gate import Gate, Urgent
from loomax.agents.search.actions.limits import CircuitBreaker, TokenBucket
from loomax.agents.search.errors import MalformedOutput, RateLimited, Rejected

# Another attempt may end differently.
TRANSIENT = ("timeout", "rate_limited", "malformed", "error")
# A tool that asks for more (Retry-After) is tried again after that.
MOST_PAUSE_S = 300.0
Note = Callable[[Kind, str], None]


@dataclass(frozen=True)
class Result:
    """What an execution came to."""

    status: Status
    value: Any = None
    detail: str = ""
    attempts: int = 0


class Executor:
    """Runs the calls of one tool.

    Args:
        delay: injected before each attempt; None injects none.
        seed: of the backoff.
    """

    def __init__(self, tool: Tool, *, delay: DelayConfig | None, seed: int):
        config = tool.config
        self._tool, self._config, self._delay = tool, config, delay
        self._random = generator("backoff", seed, tool.name)
        self._bucket = TokenBucket(config.rate_per_s, config.burst)
        self._breaker = CircuitBreaker(config.breaker_failures, config.breaker_s)
        self._gate = Gate(self._bucket)
        self.strays: set[asyncio.Task] = set()

    async def run(
        self, arguments: Mapping[str, Any], key: str, note: Note, urgent: Urgent
    ) -> Result:
        """Runs a call to its end.

        Args:
            note: records an event.
            urgent: whether somebody waits for it; it may be a guess that nobody needs yet.
        """
        loop, config = asyncio.get_running_loop(), self._config
        deadline = loop.time() + config.deadline_s
        allowed = 1 if self._tool.safety == "effect" else config.attempts
        result = Result("timeout")
        for attempt in range(allowed):
            refused = await self._admit(deadline, note, urgent)
            if refused:
                return Result(refused.status, None, _because(refused, result), attempt)
            note("attempt", str(attempt + 1))
            result = await self._attempt(arguments, key, attempt, deadline)
            if result.status == "ok":
                return result
            note("failed", f"{result.status}: {result.detail}")
            if result.status not in TRANSIENT or attempt + 1 == allowed:
                return result
            wait = backoff_delay_s(config.backoff_s, config.backoff_most_s, attempt, self._random)
            if loop.time() + wait >= deadline:
                return result
            note("retry", f"in {wait:.3f} s")
            await asyncio.sleep(wait)
        return result

    async def _admit(self, deadline: float, note: Note, urgent: Urgent) -> Result | None:
        """Waits for a place in the rate limit; says why there is none."""
        loop = asyncio.get_running_loop()
        broken = Result("circuit_open", detail=f"{self._tool.name} keeps failing")
        if self._breaker.blocked(loop.time()):
            return broken
        wait = self._bucket.delay(loop.time())
        if loop.time() + wait >= deadline:
            return Result("rate_limited", detail=f"no place for another {wait:.3f} s")
        if wait:
            note("wait", f"at least {wait:.3f} s")
        try:
            async with asyncio.timeout_at(deadline):
                await self._gate.enter(urgent)
        except TimeoutError:
            return Result("rate_limited", detail="no place before the deadline")
        return None if self._breaker.allow(loop.time()) else broken

    async def _attempt(
        self, arguments: Mapping[str, Any], key: str, attempt: int, deadline: float
    ) -> Result:
        loop = asyncio.get_running_loop()
        seconds = min(self._config.timeout_s, deadline - loop.time())
        task = loop.create_task(self._work(arguments, key, attempt))
        try:
            await asyncio.wait({task}, timeout=max(0.0, seconds))
        except asyncio.CancelledError:
            self._breaker.abandoned()
            self._leave(task)
            raise
        if task.done():
            result = self._read(task, attempt + 1)
        else:
            self._leave(task)
            result = Result("timeout", None, f"no result within {seconds:.3f} s", attempt + 1)
        self._judge(result)
        return result

    async def _work(self, arguments: Mapping[str, Any], key: str, attempt: int) -> Any:
        if self._delay is not None:
            await asyncio.sleep(injected_delay_s(self._delay, key, attempt))
        return await self._tool.run(arguments)

    def _leave(self, task: asyncio.Task) -> None:
        """Cancels a task without waiting: it may refuse to end."""
        task.cancel()
        self.strays.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task) -> None:
        self.strays.discard(task)
        if not task.cancelled():
            # Read, or asyncio complains that nobody did.
            task.exception()

    def _read(self, task: asyncio.Task, attempts: int) -> Result:
        """Turns whatever the tool did into a result."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            return Result("error", None, "the tool cancelled itself", attempts)
        if error is None:
            try:
                return Result("ok", self._tool.check(task.result()), "", attempts)
            except Exception as problem:
                return Result("malformed", None, _name(problem), attempts)
        asked = error.retry_after if isinstance(error, RateLimited) else None
        if asked is not None and asked > 0:
            moment = asyncio.get_running_loop().time() + min(asked, MOST_PAUSE_S)
            self._bucket.close_until(moment)
        return Result(_status(error), None, _name(error), attempts)

    def _judge(self, result: Result) -> None:
        """Tells the breaker; a tool that refuses with reason works."""
        if result.status in ("ok", "rejected", "rate_limited"):
            self._breaker.succeeded()
        else:
            self._breaker.failed(asyncio.get_running_loop().time())


def _status(error: BaseException) -> Status:
    kinds: tuple[tuple[type[BaseException], Status], ...] = (
        (RateLimited, "rate_limited"),
        (Rejected, "rejected"),
        (MalformedOutput, "malformed"),
        (TimeoutError, "timeout"),
    )
    return next((status for kind, status in kinds if isinstance(error, kind)), "error")


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _because(refused: Result, last: Result) -> str:
    return f"{refused.detail} (before: {last.detail})" if last.detail else refused.detail
