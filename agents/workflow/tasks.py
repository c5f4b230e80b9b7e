"""A plan unrolled into tasks with their order: what the simulator replays. Imports no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass

from loomax.agents.workflow.plan.ring import Ring
from loomax.agents.workflow.plan.tree import Chunks, Plan, Run, Shared, Space, cost

# Of a unit: (stage, share of the seconds, times called).
Parts = Mapping[str, tuple[tuple[str, float, int], ...]]


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Args:
        kind: "run", "exchange", "swap", "transfer", "dispatch" or "join" (only order).
        name: of the stages, or of what moves.
        first: of the devices that it holds.
        devices: that it holds; a transfer holds a link and no devices, work outside of the devices
            neither.
        seconds: that it takes.
        after: indices of the tasks that have to be done before.
    """

    kind: str
    name: str
    first: int
    devices: int
    seconds: float
    after: tuple[int, ...]


def unroll(plan: Plan, passes: int = 1, parts: Parts | None = None) -> list[Task]:
    """The tasks of a stream of `passes` batches, in an order that respects their order.

    Args:
        parts: stages of the units that are cycles: their calls become tasks of their own.
    """
    unrolled = _Unrolled(parts or {})
    for _ in range(passes):
        unrolled.add(plan, "", 0, ())
    return unrolled.tasks


class _Unrolled:
    """Tasks so far, and the last task of every place in the plan.

    A place is the path to a node. A program, a link and a time-shared group take one batch after
    the other; time-shared groups start the next when both sides are done with the one before.
    """

    def __init__(self, parts: Parts):
        self.tasks: list[Task] = []
        self.parts = parts
        self.last: dict[str, int] = {}

    def add(self, plan: Plan, place: str, first: int, after: tuple[int, ...]) -> tuple[int, ...]:
        """Adds one batch through a plan on devices from `first` on; returns what ends it."""
        if isinstance(plan, Run):
            return self._run(plan, place, first, after)
        if isinstance(plan, Chunks):
            ends = [self.add(plan.child, f"{place}c", first, after) for _ in range(plan.count)]
            return self._join([task for end in ends for task in end])
        if isinstance(plan, Space):
            return self._space(plan, place, first, after)
        return self._shared(plan, place, first, after)

    def _run(self, plan: Run, place: str, first: int, after: tuple[int, ...]) -> tuple[int, ...]:
        if plan.ring is not None:
            return self._ring(plan.ring, plan.seconds, place, first, after)
        calls = [("+".join(plan.units), plan.seconds)]
        if len(plan.units) == 1 and plan.units[0] in self.parts:
            calls = rounds(self.parts[plan.units[0]], plan.seconds)
        for name, seconds in calls:
            after = (self._task(place, "run", name, first, plan.devices, seconds, after),)
        return after

    def _ring(
        self, ring: Ring, seconds: float, place: str, first: int, after: tuple[int, ...]
    ) -> tuple[int, ...]:
        start = self._barrier(place, after)
        # What the plan adds to the ring's own time: the dispatch of the unit.
        if seconds > ring.seconds:
            start = (self._task("", "dispatch", "", first, 0, seconds - ring.seconds, start),)
        turns = [start] * ring.turns
        for _ in range(ring.rounds):
            turns = [self._around(ring, place, first, before) for before in turns]
        ends = self._join([turn[0] for turn in turns])
        self.last[place] = ends[0]
        return ends

    def _around(
        self, ring: Ring, place: str, first: int, after: tuple[int, ...]
    ) -> tuple[int, ...]:
        """One part of a batch once round the stations."""
        for index, station in enumerate(ring.stations):
            here, size = f"{place}.{index}", station.devices
            done = self._task(here, "run", station.stage, first, size, station.seconds, after)
            first += size
            move = here + ">", "transfer", f"{station.stage} >", first, 0
            after = (self._task(*move, station.transfer_s, (done,)),)
        return after

    def _space(
        self, plan: Space, place: str, first: int, after: tuple[int, ...]
    ) -> tuple[int, ...]:
        next_first = first + cost(plan.first).devices
        ends = self.add(plan.first, f"{place}a", first, after)
        if plan.parallel:
            return self._join([*ends, *self.add(plan.second, f"{place}b", next_first, after)])
        name = f"{label(plan.first)} > {label(plan.second)}"
        moved = self._task(place, "transfer", name, next_first, 0, plan.transfer_s, ends)
        return self.add(plan.second, f"{place}b", next_first, (moved,))

    def _shared(
        self, plan: Shared, place: str, first: int, after: tuple[int, ...]
    ) -> tuple[int, ...]:
        one, two = cost(plan.first), cost(plan.second)
        width = max(one.devices, two.devices)
        names = label(plan.first), label(plan.second)
        # A pass moves each side in and out; the side's share is that of its bytes.
        moved = one.resident_bytes + two.resident_bytes
        half = plan.swap_s / 2
        share = half * one.resident_bytes / moved if moved else 0.0
        begin = self._barrier(place, after)
        if plan.swap:
            begin = (self._task("", "swap", f"in {names[0]}", first, width, share, begin),)
        ends = self.add(plan.first, f"{place}a", first, begin)
        if plan.swap:
            name = f"{names[0]} / {names[1]}"
            ends = (self._task("", "swap", name, first, width, half, ends),)
        if plan.exchange_s:
            name = f"{names[0]} > {names[1]}"
            ends = (self._task("", "exchange", name, first, width, plan.exchange_s, ends),)
        ends = self.add(plan.second, f"{place}b", first, ends)
        if plan.swap:
            rest = half - share
            ends = (self._task("", "swap", f"out {names[1]}", first, width, rest, ends),)
        ends = self._join(list(ends))
        self.last[place] = ends[0]
        return ends

    def _barrier(self, place: str, after: tuple[int, ...]) -> tuple[int, ...]:
        return (*after, self.last[place]) if place in self.last else after

    def _join(self, after: list[int]) -> tuple[int, ...]:
        if len(after) == 1:
            return (after[0],)
        return (self._task("", "join", "", 0, 0, 0.0, tuple(after)),)

    def _task(
        self,
        place: str,
        kind: str,
        name: str,
        first: int,
        devices: int,
        seconds: float,
        after: tuple[int, ...],
    ) -> int:
        """Adds a task; one with a place comes after the place's last one."""
        if kind in ("run", "transfer"):
            after = self._barrier(place, after)
            self.last[place] = len(self.tasks)
        self.tasks.append(Task(kind, name, first, devices, seconds, after))
        return len(self.tasks) - 1


def rounds(parts: tuple[tuple[str, float, int], ...], seconds: float) -> list[tuple[str, float]]:
    """The calls of a cycle in turn: a stage called more often runs as one longer piece a round."""
    count = min(calls for _, _, calls in parts)
    return [(name, seconds * share / count) for name, share, _ in parts] * count


def label(plan: Plan) -> str:
    """The stages of a plan in one word."""
    if isinstance(plan, Run):
        return "+".join(plan.units)
    if isinstance(plan, Chunks):
        return label(plan.child)
    sign = "," if isinstance(plan, Shared) else "|"
    return f"{label(plan.first)}{sign}{label(plan.second)}"


def placements(plan: Plan, first: int = 0) -> list[tuple[Run, range]]:
    """The devices of each program. Sides that share time begin at the same device."""
    if isinstance(plan, Run):
        return [(plan, range(first, first + plan.devices))]
    if isinstance(plan, Chunks):
        return placements(plan.child, first)
    beside = cost(plan.first).devices if isinstance(plan, Space) else 0
    return placements(plan.first, first) + placements(plan.second, first + beside)
