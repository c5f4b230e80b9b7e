"""The action server: runs tool calls, each distinct one once, and never lets one hang.

A call becomes an outcome, whatever the tool does; the only exception that leaves `call` is the
cancellation of the caller. Calls of a read-only tool with one canonical key share an execution
(the pending futures of "Speculative Actions", arXiv 2510.04371) and then a cached result (the
action buffer of SPAgent, arXiv 2511.20048).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from loomax.agents.search.actions.cache import Cache
from loomax.agents.search.actions.call import Call, Outcome, Source, Status, Tool
from loomax.agents.search.actions.canonical import canonical_key
from loomax.agents.search.actions.config import DelayConfig
from loomax.agents.search.actions.events import Event, EventLog, Kind
from loomax.agents.search.actions.execution import Executor, Result
from loomax.agents.search.actions.flights import Flight, Flights


@dataclass(frozen=True)
class _Received:
    """A call as the log knows it."""

    call: Call
    number: int
    started: float
    key: str = ""


class ActionServer:
    """Runs the calls of many requests; belongs to one event loop.

    Results are shared between callers, which must not change them.

    Args:
        cached: results that are kept at most.
        delay: injected before each attempt, for benchmarks.
        seed: of the backoff.
        log: gets every event.

    Raises:
        ValueError: two tools have one name.
    """

    def __init__(
        self,
        tools: Iterable[Tool],
        *,
        cached: int = 10_000,
        delay: DelayConfig | None = None,
        seed: int = 0,
        log: EventLog | None = None,
    ):
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise ValueError(f"two tools are named {tool.name!r}; names are unique")
            self._tools[tool.name] = tool
        self._executors = {
            name: Executor(tool, delay=delay, seed=seed) for name, tool in self._tools.items()
        }
        self.log = log or EventLog()
        self._cache: Cache[Result] = Cache(cached)
        self._flights: Flights[Result] = Flights()
        self._closed, self._calls = False, 0

    async def __aenter__(self) -> "ActionServer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, call: Call) -> Outcome:
        """Runs a call, or shares what another one runs or has run."""
        self._calls += 1
        received = _Received(call, self._calls, asyncio.get_running_loop().time())
        self._note(received, "call")
        refused, received = self._examine(received)
        if refused:
            self._note(received, "refused", detail=f"{refused.status}: {refused.detail}")
            return refused
        if (held := self._held(received)) is not None:
            self._note(received, "hit")
            return self._outcome(received, held, "cache")
        shared_key = received.key if self._tools[call.tool].safety == "read_only" else None
        start = partial(self._execute, received)
        flight, shared = self._flights.board(shared_key, start, not call.speculative)
        if shared:
            self._note(received, "joined", flight.number)
        try:
            result = await self._flights.wait(shared_key, flight)
        except asyncio.CancelledError:
            self._note(received, "cancelled", flight.number)
            raise
        if result is None:
            return self._outcome(received, Result("closed", detail="the server was closed"), "")
        return self._outcome(received, result, "shared" if shared else "run")

    async def close(self, patience_s: float = 5.0) -> None:
        """Cancels what is on its way; calls that wait for it get an outcome.

        Args:
            patience_s: how long tools may take to end; those that do not are logged as stuck.
        """
        self._closed = True
        tasks = self._flights.tasks()
        for executor in self._executors.values():
            tasks |= executor.strays
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
        now = asyncio.get_running_loop().time()
        for name, executor in self._executors.items():
            for task in executor.strays:
                self.log.add(Event(now, "stuck", name, "", detail=task.get_name()))

    def _examine(self, received: _Received) -> tuple[Outcome | None, _Received]:
        """Why a call may not run, and the call with its key."""
        call = received.call
        tool = self._tools.get(call.tool)
        if self._closed:
            return Outcome("closed", detail="the server was closed"), received
        if tool is None:
            known = ", ".join(sorted(self._tools))
            return Outcome(
                "unknown_tool", detail=f"no tool {call.tool!r}; there is {known}"
            ), received
        if call.speculative and tool.safety != "read_only":
            detail = f"{tool.name} is {tool.safety}; only read_only tools are speculated"
            return Outcome("unsafe", detail=detail), received
        try:
            key = canonical_key(tool.name, call.arguments, tool.version())
        except ValueError as error:
            return Outcome("rejected", detail=str(error)), received
        except Exception as error:
            return Outcome("error", detail=f"version of {tool.name}: {error!r}"), received
        spent = call.budget.spend(call.speculative) if call.budget else None
        if spent:
            return Outcome("budget", detail=spent), received
        return None, _Received(call, received.number, received.started, key)

    def _held(self, received: _Received) -> Result | None:
        return self._cache.get(received.key, asyncio.get_running_loop().time())

    async def _execute(self, received: _Received, flight: Flight) -> Result:
        """Runs an execution and keeps its result."""
        call, tool = received.call, self._tools[received.call.tool]
        note = partial(self._note_execution, received, flight.number)
        note("start", "")
        try:
            executor = self._executors[call.tool]
            result = await executor.run(call.arguments, received.key, note, lambda: flight.urgent)
        except asyncio.CancelledError:
            note("aborted", "")
            raise
        note("end", result.status)
        if result.status == "ok" and tool.safety == "read_only" and self._current(received, tool):
            now = asyncio.get_running_loop().time()
            self._cache.put(received.key, result, now, tool.config.ttl_s)
        return result

    def _current(self, received: _Received, tool: Tool) -> bool:
        """Whether the data is still what the key says: the index may have been replaced."""
        try:
            key = canonical_key(tool.name, received.call.arguments, tool.version())
        except Exception:
            return False
        return key == received.key

    def _outcome(self, received: _Received, result: Result, source: Source) -> Outcome:
        seconds = asyncio.get_running_loop().time() - received.started
        status: Status = result.status
        self._note(received, "done", detail=f"{status} {source}".strip())
        return Outcome(status, result.value, result.detail, source, result.attempts, seconds)

    def _note(
        self, received: _Received, kind: Kind, execution: int = 0, *, detail: str = ""
    ) -> None:
        call, now = received.call, asyncio.get_running_loop().time()
        self.log.add(
            Event(
                time_s=now,
                kind=kind,
                tool=call.tool,
                key=received.key,
                call=received.number,
                execution=execution,
                request=call.request,
                speculative=call.speculative,
                detail=detail,
            )
        )

    def _note_execution(self, received: _Received, number: int, kind: Kind, detail: str) -> None:
        """An execution belongs to all that share it; the log names its first caller."""
        self._note(received, kind, number, detail=detail)
