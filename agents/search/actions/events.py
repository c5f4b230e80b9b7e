"""Everything that happens to calls, in order."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from loomax.runtime.files import atomic_write

Kind = Literal[
    # a call
    "call", "hit", "joined", "refused", "done", "cancelled",
    # an execution, which calls may share
    "start", "wait", "attempt", "failed", "retry", "end", "aborted", "stuck",
]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One moment.

    Args:
        time_s: of the event loop.
        call: number of the call, 0 for what belongs to an execution.
        execution: its number, 0 where there is none.
        request: who called.
        detail: for people, and the error's name where there is one.
    """

    time_s: float
    kind: Kind
    tool: str
    key: str
    call: int = 0
    execution: int = 0
    request: str = ""
    speculative: bool = False
    detail: str = ""


class EventLog:
    """Keeps all events, or hands them on, which a server that runs for long should do.

    Args:
        sink: gets every event instead of the list; it must neither block nor raise.
    """

    def __init__(self, sink: Callable[[Event], None] | None = None):
        self.events: list[Event] = []
        self._sink = sink or self.events.append

    def add(self, event: Event) -> None:
        """Records an event."""
        self._sink(event)

    def count(self, kind: Kind) -> int:
        """How many events of a kind there were."""
        return sum(event.kind == kind for event in self.events)

    def write(self, path: str | Path) -> None:
        """Writes the events as JSON lines."""
        lines = (json.dumps(asdict(event), ensure_ascii=False) for event in self.events)
        atomic_write(path, "".join(f"{line}\n" for line in lines))
