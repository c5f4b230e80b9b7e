"""Events as lines, as JSON and as figures."""

import asyncio
import io
import json

import pytest
from rich.console import Console

from loomax.agents.search.actions.clock import run_virtual
from loomax.agents.search.trace.events import Event, Trace, write
from loomax.agents.search.trace.live import Live, line
from loomax.agents.search.trace.statistics import statistics


def event(kind, step=0, **details):
    return Event(1.0, "r", step, kind, **details)


RUN = [
    event("start"),
    event("unverified", 0, number=1, tokens=5),
    event("draft", 1, number=1, tokens=4),
    event("ahead", 1, number=1),
    event("turn", 1, tokens=50),
    event("right", 1, number=1, tokens=4),
    event("wrong", 1, number=2, tokens=3),
    event("dropped", 1, number=3, tokens=2),
    event("hit", 1, seconds=0.7),
    event("turn", 2, tokens=40),
    event("wrong", 2, number=1, tokens=6),
    event("miss", 2, seconds=1.0),
    event("turn", 3, tokens=20),
    event("wrong", 3, number=1, tokens=1, detail="no call"),
    event("end", 3, seconds=9.0, detail="answered: yes"),
]
SHORT = [event("turn", 0, tokens=10), event("end", 0, seconds=1.0, detail="steps: none")]


def test_statistics():
    found = statistics([RUN, SHORT])
    assert (found.runs, found.latency_s, found.saved_s) == (2, 5.0, 0.35)
    assert (found.wasted, found.generated) == ((3 + 2 + 6 + 1) / 2, (5 + 110 + 4 + 12 + 10) / 2)
    # One taken unverified, one ahead that was hit, one missed.
    assert (found.tool_calls, found.hits, found.unverified) == (1.5, 0.5, 0.5)
    # The step that asked for nothing is not counted.
    assert found.direct_hit == {1: 1.0, 2: 0.0}
    assert found.ends == {"answered": 1, "steps": 1}
    with pytest.raises(ValueError, match="0 runs"):
        statistics([])


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (event("hit", 2, seconds=0.7), "0.50 s  step 3  hit           saved 0.70 s"),
        (
            event("draft", number=2, tokens=9, confidence=0.25, detail="call"),
            "0.50 s  step 1  draft         #2  9 tokens  confidence 0.25  call",
        ),
        (event("end", seconds=3.0, detail="answered: x"), "end           3.00 s  answered: x"),
    ],
)
def test_a_line(shown, text):
    assert str(line(shown, 0.5)).endswith(text)


def test_live_lines_come_as_things_happen():
    out = io.StringIO()
    live = Live(Console(file=out, width=40))
    live(event("start", detail="[red] is no markup " * 3))
    assert len(out.getvalue().splitlines()) == 1 and "[red]" in out.getvalue()
    live(Event(3.5, "r", 0, "failed", detail="timeout"))
    assert out.getvalue().splitlines()[1].split() == ["2.50", "s", "step", "1", "failed", "timeout"]


def test_a_trace_is_kept_handed_on_and_written(tmp_path):
    seen = []

    async def main():
        trace = Trace("r", seen.append)
        trace.add("start", 0, detail="wer ist ä ?")
        await asyncio.sleep(2.0)
        trace.add("end", 1, seconds=2.0)
        return trace.events

    events = run_virtual(main())
    assert seen == events and [found.time_s for found in events] == [0.0, 2.0]
    write(tmp_path / "trace.jsonl", events)
    rows = [json.loads(row) for row in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert [Event(**row) for row in rows] == events
