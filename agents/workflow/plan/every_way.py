"""All ways to run a workflow with one cycle, from the definitions: a reference for `build`.

It shares the records with `cycles`, and no code: rings are listed without pruning, and take the
longest path through their tasks.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.problem import Link, Option, Problem, Unit
from loomax.agents.workflow.plan.ring import Ring, Station
from loomax.agents.workflow.profile import Measurement
from loomax.agents.workflow.workflow import Call, Workflow

# Parts of a batch that go round a cycle.
TURNS = (1, 2, 4, 8)
Table = Mapping[str, Sequence[Measurement]]


def every_way(workflow: Workflow, cycle: int, table: Table, hardware: Hardware) -> Problem:
    """The problem of a cycle with a chain of calls after it.

    Args:
        cycle: calls of the workflow, from the first on, that are the cycle.
        table: the measurements of each call, at all sizes on all device counts.
    """
    calls, batch = workflow.calls, workflow.batch
    groups = [calls[:cycle], *((call,) for call in calls[cycle:])]
    sizes = {(edge.source, edge.target): edge.bytes_per_item for edge in workflow.edges}
    units, links = [], []
    for index, group in enumerate(groups):
        ways = _Ways(group, batch, table, hardware, sizes)
        parts = tuple((call.name, 1 / len(group), call.times) for call in group)
        fusable = all(call.fusable for call in group)
        name = "+".join(call.name for call in group)
        units.append(Unit(name, ways, fusable, parts=parts if len(group) > 1 else ()))
        if index:
            ends = groups[index - 1][-1].name, group[0].name
            links.append(Link(index - 1, index, sizes[ends]))
    return Problem(tuple(units), tuple(links), batch, hardware)


@dataclass(frozen=True)
class _Ways:
    """The ways to run a group, as `Options`.

    Args:
        batch: of an iteration.
        sizes: bytes per item of each edge, over all rounds.
    """

    group: tuple[Call, ...]
    batch: int
    table: Table
    hardware: Hardware
    sizes: Mapping[tuple[str, str], float]

    def __call__(self, batch: int, most: int) -> tuple[Option, ...]:
        if not self.cuts(batch):
            return ()
        shared = [self.together(batch, n) for n in range(1, most + 1) if batch % n == 0]
        return (*shared, *self.rings(batch, most))

    def cuts(self, size: int) -> bool:
        """Whether microbatches may be so large."""
        return size == self.batch or all(size % call.multiple == 0 for call in self.group)

    def at(self, call: Call, size: int, devices: int) -> Measurement:
        found = self.table[call.name]
        return next(one for one in found if (one.batch, one.devices) == (size, devices))

    def together(self, batch: int, devices: int) -> Option:
        """One call after the other; where they are no program, each costs a dispatch."""
        group = self.group
        whole = len(group) == 1 or all(call.fusable for call in group)
        dispatch = 0.0 if whole else self.hardware.dispatch_s
        costs = [self.at(call, batch, devices) for call in group]
        seconds = sum(
            call.times * (cost.seconds + dispatch) for call, cost in zip(group, costs, strict=True)
        )
        resident = sum(cost.resident_bytes for cost in costs)
        return Option(devices, seconds, resident, max(cost.working_bytes for cost in costs))

    def rings(self, batch: int, most: int) -> Iterator[Option]:
        if len(self.group) == 1 or all(call.background for call in self.group):
            return
        for turns in TURNS:
            part = batch // turns
            if batch % turns or (turns > 1 and not self.cuts(part)):
                continue
            counts = [n for n in range(1, most + 1) if part % n == 0]
            ways = [(0,) if call.background else counts for call in self.group]
            for chosen in itertools.product(*ways):
                if sum(chosen) <= most:
                    yield self.ring(chosen, part, turns)

    def ring(self, chosen: tuple[int, ...], part: int, turns: int) -> Option:
        """Stages on so many devices each; one in the background takes what it does beside one."""
        group, rounds = self.group, self.group[0].times
        costs = [self.at(call, part, n or 1) for call, n in zip(group, chosen, strict=True)]
        stations = tuple(
            Station(call.name, n, cost.seconds + self.hardware.dispatch_s, self.move(index, part))
            for index, (call, n, cost) in enumerate(zip(group, chosen, costs, strict=True))
        )
        held = [cost for cost, n in zip(costs, chosen, strict=True) if n]
        resident = max(cost.resident_bytes for cost in held)
        peak = max(cost.resident_bytes + cost.working_bytes for cost in held)
        seconds = longest_path(stations, turns, rounds)
        ring = Ring(stations, turns, rounds)
        return Option(sum(chosen), seconds, resident, peak - resident, ring)

    def move(self, index: int, part: int) -> float:
        """Seconds to hand a part on; a stage in the background takes and gives its data itself."""
        source, target = self.group[index], self.group[(index + 1) % len(self.group)]
        if source.background or target.background:
            return 0.0
        size = self.sizes[source.name, target.name] * part / source.times
        return self.hardware.link_latency_s + size / self.hardware.link_bytes_per_s


def longest_path(stations: tuple[Station, ...], turns: int, rounds: int) -> float:
    """Every station and every link serves the parts in turn, and every part goes round them."""
    steps = [step for s in stations for step in (s.seconds, s.transfer_s)]
    free, done = [0.0] * len(steps), [0.0] * turns
    for _ in range(rounds):
        for turn in range(turns):
            for index, step in enumerate(steps):
                free[index] = done[turn] = max(free[index], done[turn]) + step
    return max(done)
