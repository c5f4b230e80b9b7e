"""Timelines as text and as a picture."""

from pathlib import Path

from loomax.agents.workflow.simulate import Event, Timeline
from loomax.runtime.plots import plt, save_figure

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MARKS = {"transfer": ">", "exchange": ">", "swap": "~"}
IDLE, OTHER = ".", "?"


def rows(timeline: Timeline) -> list[tuple[str, list[Event]]]:
    """(where, events): groups of devices that do the same, stages outside of them, the links."""
    edges = {0, timeline.devices}
    for event in timeline.events:
        if event.task.devices:
            edges |= {event.task.first, event.task.first + event.task.devices}
    ordered = sorted(edges)
    found = []
    for start, stop in zip(ordered, ordered[1:], strict=False):
        name = f"device {start}" if stop - start == 1 else f"devices {start}-{stop - 1}"
        found.append((name, [event for event in timeline.events if _covers(event, start)]))
    outside = [e for e in timeline.events if e.task.kind == "run" and not e.task.devices]
    for stage in dict.fromkeys(event.task.name for event in outside):
        found.append(("host", [event for event in outside if event.task.name == stage]))
    moved = [event for event in timeline.events if event.task.kind == "transfer" and _takes(event)]
    return [*found, ("links", moved)] if moved else found


def legend(timeline: Timeline) -> dict[str, str]:
    """A letter for every stage, in order of appearance."""
    names = dict.fromkeys(e.task.name for e in timeline.events if e.task.kind == "run")
    return {name: LETTERS[i] if i < len(LETTERS) else OTHER for i, name in enumerate(names)}


def text(timeline: Timeline, width: int = 72) -> str:
    """The timeline in `width` columns: a letter per stage, `>` for data, `~` for swaps.

    Each column shows what takes most of its time, a dot where that is nothing.
    """
    letters, lines = legend(timeline), rows(timeline)
    margin = max(len(name) for name, _ in lines)
    body = [f"{name:<{margin}} {_line(timeline, events, letters, width)}" for name, events in lines]
    scale = f"{'':<{margin}} 0{timeline.seconds:>{width - 3}.4g} s"
    names = ", ".join(f"{letter} {name}" for name, letter in letters.items())
    return "\n".join([*body, scale, f"{names}; > data, ~ swap, . idle"])


def draw(timeline: Timeline, target: Path, title: str = "Predicted timeline") -> Path:
    """Draws the timeline as a PNG: a row for each of `rows`, a colour for each stage."""
    lines = rows(timeline)
    figure, axis = plt.subplots(figsize=(10, 1.2 + 0.5 * len(lines)), constrained_layout=True)
    names = list(legend(timeline))
    colours = {name: f"C{index % 10}" for index, name in enumerate(names)}
    labelled: set[str] = set()
    for row, (_, events) in enumerate(lines):
        for event in filter(_takes, events):
            name = event.task.name if event.task.kind == "run" else event.task.kind
            span = event.start_s, event.end_s - event.start_s
            label = "" if name in labelled else name
            labelled.add(name)
            colour = colours.get(name, "0.2" if name == "swap" else "0.6")
            axis.broken_barh(
                [span], (row - 0.4, 0.8), facecolors=colour, label=label, edgecolor="w", lw=0.4
            )
    axis.set_yticks(range(len(lines)), [name for name, _ in lines])
    axis.invert_yaxis()
    axis.set_xlim(0, timeline.seconds or 1)
    axis.set_xlabel("seconds")
    axis.set_title(title)
    figure.legend(loc="outside right upper")
    return save_figure(figure, target)


def _line(timeline: Timeline, events: list[Event], letters: dict[str, str], width: int) -> str:
    step = timeline.seconds / width
    marks = []
    for column in range(width):
        low, high = column * step, (column + 1) * step
        shares: dict[str, float] = {IDLE: high - low}
        for event in events:
            inside = min(high, event.end_s) - max(low, event.start_s)
            if inside > 0:
                mark = MARKS.get(event.task.kind) or letters[event.task.name]
                shares[mark] = shares.get(mark, 0.0) + inside
                shares[IDLE] -= inside
        marks.append(max(shares, key=lambda mark: shares[mark]))
    return "".join(marks)


def _covers(event: Event, device: int) -> bool:
    return event.task.first <= device < event.task.first + event.task.devices


def _takes(event: Event) -> bool:
    return event.end_s > event.start_s
