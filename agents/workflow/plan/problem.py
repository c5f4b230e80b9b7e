"""What the planner plans: units, what flows between them, and the pool. Imports no JAX."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from loomax.agents.workflow.hardware import Hardware
from loomax.agents.workflow.plan.ring import Ring


@dataclass(frozen=True)
class Option:
    """One way to run a unit on one batch.

    Args:
        devices: that share the batch.
        seconds: for the batch.
        resident_bytes: per device, held while the unit is not swapped out.
        working_bytes: per device, on top, while it runs.
        ring: for a cycle whose stages have devices of their own.
    """

    devices: int
    seconds: float
    resident_bytes: int = 0
    working_bytes: int = 0
    ring: Ring | None = None


# (batch, most devices) to the ways of running that batch on at most so many devices.
Options = Callable[[int, int], tuple[Option, ...]]


@dataclass(frozen=True)
class Unit:
    """What is placed as one: a stage, or the stages of a cycle.

    Args:
        options: may be asked for more devices than the pool has, to say what would fit.
        fusable: whether it may be part of a larger XLA program.
        splits: whether it may run on a part of the batch.
        parts: (stage, share of the seconds, times called), for the timeline.
        residents: (name, share of the resident bytes): units that name the same thing hold it once
            in one program.
        background: stages of it that work outside of the devices.
    """

    name: str
    options: Options
    fusable: bool = True
    splits: bool = True
    parts: tuple[tuple[str, float, int], ...] = ()
    residents: tuple[tuple[str, float], ...] = ()
    background: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Link:
    """Data that flow from one unit to another; `source` and `target` index the units."""

    source: int
    target: int
    bytes_per_item: float = 0.0


@dataclass(frozen=True)
class Problem:
    """A planning problem.

    Args:
        batch: items of one iteration.

    Raises:
        ValueError: no unit, a name twice, a batch below 1, a link to nowhere, or a cycle.
    """

    units: tuple[Unit, ...]
    links: tuple[Link, ...]
    batch: int
    hardware: Hardware

    def __post_init__(self):
        names = [unit.name for unit in self.units]
        if not names:
            raise ValueError("the workflow has no stage: call at least one")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two units are called {name!r}: give each its own name")
        if self.batch < 1:
            raise ValueError(f"the batch is {self.batch}: it must be 1 or more")
        graph: dict[int, set[int]] = {index: set() for index in range(len(names))}
        for link in self.links:
            if not {link.source, link.target} <= set(graph):
                raise ValueError(f"{link} leads outside of the {len(names)} units")
            graph[link.target].add(link.source)
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = " <- ".join(names[index] for index in error.args[1])
            raise ValueError(f"units form a cycle ({cycle}): collapse it into one") from error

    @property
    def everything(self) -> int:
        """The bit mask of all units."""
        return (1 << len(self.units)) - 1

    def options(self, index: int, batch: int, devices: int | None = None) -> tuple[Option, ...]:
        """The ways to run a batch of one unit, whether they fit into memory or not."""
        unit = self.units[index]
        if batch != self.batch and not unit.splits:
            return ()
        return unit.options(batch, self.hardware.devices if devices is None else devices)

    def members(self, group: int) -> list[int]:
        """The units of a bit mask."""
        return [index for index in range(len(self.units)) if group >> index & 1]

    def crossing(self, first: int, second: int) -> float | None:
        """Bytes per item that flow from one group to another, or None where nothing is linked."""
        found = [
            link.bytes_per_item
            for link in self.links
            if first >> link.source & 1 and second >> link.target & 1
        ]
        return sum(found) if found else None

    def cuts(self, group: int) -> Iterator[tuple[int, int]]:
        """The s-t cuts of a group: (first, second), nothing flowing from second to first.

        Of two groups without a link between them only one order is given.
        """
        lowest = group & -group
        first = (group - 1) & group
        while first:
            second = group ^ first
            if self.crossing(second, first) is None:
                if first & lowest or self.crossing(first, second) is not None:
                    yield first, second
            first = (first - 1) & group

    def transfer_s(self, first: int, second: int, batch: int) -> float:
        """Seconds to move a batch's data to another group of devices; 0 without a link."""
        crossing = self.crossing(first, second)
        if crossing is None:
            return 0.0
        return self.hardware.link_latency_s + crossing * batch / self.hardware.link_bytes_per_s

    def exchange_s(self, first: int, second: int, batch: int) -> float:
        """Seconds to hand a batch's data to the next program on the same devices."""
        return (self.crossing(first, second) or 0.0) * batch / self.hardware.local_bytes_per_s


def held(parts: Sequence[tuple[int, Sequence[tuple[str, float]]]]) -> int:
    """Resident bytes of several things on the same devices, what they share counted once.

    Args:
        parts: of each its resident bytes, and (name, share of them).
    """
    most: dict[str, float] = {}
    total = 0.0
    for size, shares in parts:
        total += size
        for name, share in shares:
            total -= min(most.get(name, 0.0), share * size)
            most[name] = max(most.get(name, 0.0), share * size)
    return math.ceil(total - 1e-6)


def table_options(table: Mapping[int, Sequence[Option]]) -> Options:
    """Options from a table of those for each batch size."""

    def options(batch: int, most: int) -> tuple[Option, ...]:
        return tuple(option for option in table.get(batch, ()) if option.devices <= most)

    return options
