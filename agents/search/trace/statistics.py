"""Figures of runs, from their events alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loomax.agents.search.trace.events import Event


@dataclass(frozen=True)
class Statistics:
    """What runs came to; means are over runs.

    Args:
        latency_s: mean seconds from start to end.
        generated, wasted: tokens; wasted are those of drafts that were wrong, dropped or refused.
        tool_calls: that were started, so a hit and its draft are one.
        saved_s: tool time that ran beside reasoning.
        direct_hit: by step, the share of first drafts that were the reasoned action.
        ends: how runs ended, and how many.
    """

    runs: int
    latency_s: float
    generated: float
    wasted: float
    tool_calls: float
    unverified: float
    hits: float
    saved_s: float
    direct_hit: dict[int, float]
    ends: dict[str, int]


def statistics(runs: Sequence[Iterable[Event]]) -> Statistics:
    """Figures of some runs.

    Raises:
        ValueError: there are none.
    """
    if not runs:
        raise ValueError("0 runs have no statistics; give at least 1")
    counts, sums = Counter(), defaultdict(float)
    first: dict[int, list[bool]] = defaultdict(list)
    ends: Counter = Counter()
    for events in runs:
        for event in events:
            counts[event.kind] += 1
            sums[f"{event.kind} tokens"] += event.tokens
            sums[f"{event.kind} s"] += event.seconds
            judged = event.kind in ("right", "wrong") and not event.detail
            if judged and event.number == 1:
                first[event.step].append(event.kind == "right")
            if event.kind == "end":
                ends[event.detail.partition(":")[0]] += 1
    wasted = sum(sums[f"{kind} tokens"] for kind in ("wrong", "dropped", "refused"))
    made = sum(sums[f"{kind} tokens"] for kind in ("turn", "unverified", "right"))
    started = counts["ahead"] + counts["miss"] + counts["unverified"]
    count = len(runs)
    return Statistics(
        runs=count,
        latency_s=sums["end s"] / count,
        generated=(made + wasted) / count,
        wasted=wasted / count,
        tool_calls=started / count,
        unverified=counts["unverified"] / count,
        hits=counts["hit"] / count,
        saved_s=sums["hit s"] / count,
        direct_hit={step: sum(seen) / len(seen) for step, seen in sorted(first.items())},
        ends=dict(ends),
    )
