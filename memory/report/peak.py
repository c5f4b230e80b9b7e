"""When a program's heap is fullest, and what it holds then. Imports no JAX."""

from collections import defaultdict
from dataclasses import dataclass

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.trace import Trace, blocks, live_bytes


@dataclass(frozen=True)
class Peak:
    """The first time at which most bytes are live.

    Args:
        time: its first step.
        until: the step at which bytes change again.
        live: bytes, alignment included: the lower bound of every plan.
        held: buffers, the largest first. Of an alias group it is the one that lives or lived last.
    """

    time: int
    until: int
    live: int
    held: tuple[Lifetime, ...]


def peak_of(trace: Trace) -> Peak:
    """The peak of a trace; one without buffers has none, at time 0."""
    curve = live_bytes(blocks(trace.records))
    if not curve:
        return Peak(0, 0, 0, ())
    at = max(range(len(curve)), key=lambda index: curve[index][1])
    time, live = curve[at]
    until = curve[at + 1][0] if at + 1 < len(curve) else time + 1
    groups: dict[str, list[Lifetime]] = defaultdict(list)
    for record in trace.records:
        groups[f"alias {record.alias}" if record.alias else f"buffer {record.id}"].append(record)
    held = [_holder(group, time) for group in groups.values() if _lives(group, time)]
    return Peak(time, until, live, tuple(sorted(held, key=lambda record: -record.size)))


def _lives(group: list[Lifetime], time: int) -> bool:
    first = min(record.birth for record in group)
    return first <= time < max(record.death for record in group)


def _holder(group: list[Lifetime], time: int) -> Lifetime:
    born = [record for record in group if record.birth <= time]
    return max(born, key=lambda record: record.birth)
