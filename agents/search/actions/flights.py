"""Executions that are on their way, each shared by all calls with its key.

An execution goes on as long as one caller waits for it: that callers are cancelled does not
disturb the others, and when the last one is, so is the execution.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


@dataclass(eq=False)
class Flight(Generic[Value]):
    """One execution.

    Args:
        number: of the execution, from 1.
        urgent: whether somebody waits for it who does not merely guess.
    """

    number: int
    urgent: bool = False
    callers: int = 0
    task: asyncio.Task = field(init=False)


class Flights(Generic[Value]):
    """Executions by key."""

    def __init__(self):
        self._held: dict[str, Flight] = {}
        self._all: set[Flight] = set()
        self._last = 0

    def __len__(self) -> int:
        return len(self._all)

    def board(
        self, key: str | None, start: Callable[[Flight], Coroutine[Any, Any, Value]], urgent: bool
    ) -> tuple[Flight, bool]:
        """The execution with a key, and whether it was under way.

        Args:
            key: None starts one that nobody else shares.
            start: makes the coroutine of a new execution.
        """
        held = self._held.get(key) if key is not None else None
        if held is not None:
            held.urgent = held.urgent or urgent
            return held, True
        self._last += 1
        flight = Flight(self._last, urgent)
        flight.task = asyncio.get_running_loop().create_task(start(flight))
        self._all.add(flight)
        if key is not None:
            self._held[key] = flight
        flight.task.add_done_callback(lambda _: self._land(key, flight))
        return flight, False

    async def wait(self, key: str | None, flight: Flight) -> Value | None:
        """The result, or None if the execution was cancelled."""
        flight.callers += 1
        try:
            # Unlike awaiting the task, this does not hand our cancellation on to it.
            await asyncio.wait({flight.task})
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.task.done():
                # At once, so that the next caller does not board what is being cancelled.
                self._land(key, flight)
                flight.task.cancel()
        return None if flight.task.cancelled() else flight.task.result()

    def tasks(self) -> set[asyncio.Task]:
        """All that are on their way."""
        return {flight.task for flight in self._all}

    def _land(self, key: str | None, flight: Flight) -> None:
        if key is not None and self._held.get(key) is flight:
            del self._held[key]
        if flight.task.done():
            self._all.discard(flight)
