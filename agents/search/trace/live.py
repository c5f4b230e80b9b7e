"""A run as it happens, one line an event."""

from rich.console import Console
from rich.text import Text

from loomax.agents.search.trace.events import Event, Kind

STYLES: dict[Kind, str] = {
    "hit": "green",
    "right": "green",
    "unverified": "cyan",
    "ahead": "blue",
    "draft": "blue",
    "miss": "yellow",
    "wrong": "yellow",
    "refused": "yellow",
    "fault": "red",
    "failed": "red",
    "draft_failed": "red",
    "cancelled": "red",
    "end": "bold",
}


def line(event: Event, start_s: float = 0.0) -> Text:
    """One event for people.

    Args:
        start_s: the moment that is shown as 0.
    """
    parts = [f"{event.time_s - start_s:8.2f} s", f"step {event.step + 1}"]
    parts.append(f"{event.kind.replace('_', ' '):<12}")
    if event.number:
        parts.append(f"#{event.number}")
    if event.tokens:
        parts.append(f"{event.tokens} tokens")
    if event.kind == "hit":
        parts.append(f"saved {event.seconds:.2f} s")
    elif event.seconds:
        parts.append(f"{event.seconds:.2f} s")
    if event.kind in ("draft", "unverified", "refused"):
        parts.append(f"confidence {event.confidence:.2f}")
    if event.detail:
        parts.append(event.detail)
    return Text("  ".join(parts), style=STYLES.get(event.kind, "dim"))


class Live:
    """A sink for one run that prints its events.

    Args:
        console: None is standard output.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console()
        self._start_s: float | None = None

    def __call__(self, event: Event) -> None:
        if self._start_s is None:
            self._start_s = event.time_s
        self._console.print(line(event, self._start_s), soft_wrap=True)
