"""Everything that happens in a run, in order."""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from loomax.runtime.files import atomic_write

Kind = Literal[
    "start",
    "phase",  # a phase begins; why
    "turn",  # the model's own turn
    "unverified",  # a draft is taken instead of a turn
    "refused",  # a draft of the aggressive phase is not taken; why
    "draft",  # a draft beside the reasoning is complete
    "right", "wrong", "dropped",  # what became of it
    "ahead",  # the call of a draft begins
    "hit", "miss",  # a call had, or had not, been begun by a draft
    "reused",  # a call that another run, or an earlier step, had made
    "observation",
    "fault",  # output that is no action
    "failed",  # a tool call without a result
    "draft_failed",  # the engine gave a draft up
    "cancelled",
    "end",
]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One moment of a run.

    Args:
        time_s: of the event loop.
        step: tool turns before, from 0.
        number: of the draft, from 1.
        tokens: that were generated, or of an observation.
        seconds: that it took; of a hit, those that were saved.
        confidence: of a draft, 0 to 1.
        detail: for people, and names of statuses.
    """

    time_s: float
    request: str
    step: int
    kind: Kind
    number: int = 0
    tokens: int = 0
    seconds: float = 0.0
    confidence: float = 0.0
    detail: str = ""


Sink = Callable[[Event], None]


class Trace:
    """The events of one run.

    Args:
        sink: gets each event too, at once; it must neither block nor raise.
    """

    def __init__(self, request: str, sink: Sink | None = None):
        self.events: list[Event] = []
        self._request, self._sink = request, sink

    def add(self, kind: Kind, step: int, **details) -> None:
        """Records an event; `details` are fields of `Event`."""
        now = asyncio.get_running_loop().time()
        event = Event(now, self._request, step, kind, **details)
        self.events.append(event)
        if self._sink:
            self._sink(event)


def write(path: str | Path, events: Iterable[Event]) -> None:
    """Writes events as JSON lines."""
    lines = (json.dumps(asdict(event), ensure_ascii=False) for event in events)
    atomic_write(path, "".join(f"{line}\n" for line in lines))
