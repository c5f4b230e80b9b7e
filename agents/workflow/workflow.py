"""The graph of a workflow, and its cycles collapsed. Imports no JAX."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Call:
    """A stage at one place in a program.

    Args:
        name: the stage's, with `#2`, `#3` where the program calls it again.
        stage: the stage's name, by which the profile knows it.
        inputs, output: pytrees of shapes and types, resident arguments included.
        resident_bytes: parameters and state of one copy.
        residents: (name, bytes) of those that are inputs of the program: calls that name the same
            thing hold it once where they share devices.
        batch_axis: None where the whole batch is needed at once.
        times: that it runs in one iteration.
        fn: the stage's function.
        background: it works outside of the devices, and needs none in a ring.
        multiple: a microbatch has a multiple of so many items.
    """

    name: str
    stage: str
    inputs: tuple
    output: Any
    resident_bytes: int = 0
    batch_axis: int | None = 0
    fusable: bool = True
    times: int = 1
    fn: Any = None
    residents: tuple[tuple[str, int], ...] = ()
    background: bool = False
    multiple: int = 1

    @property
    def resident_shares(self) -> tuple[tuple[str, float], ...]:
        """The named residents as parts of all."""
        return tuple((name, size / self.resident_bytes) for name, size in self.residents if size)


@dataclass(frozen=True)
class Edge:
    """Data from one call to another; `back` where they belong to the next round of a loop.

    Args:
        bytes_per_item: of an iteration, over all rounds.
    """

    source: str
    target: str
    bytes_per_item: float
    back: bool = False


@dataclass(frozen=True)
class Workflow:
    """Calls, what flows between them, and the items of one iteration.

    Raises:
        ValueError: an edge that leads to no call.
    """

    calls: tuple[Call, ...]
    edges: tuple[Edge, ...]
    batch: int

    def __post_init__(self):
        names = [call.name for call in self.calls]
        for edge in self.edges:
            for name in (edge.source, edge.target):
                if name not in names:
                    raise ValueError(f"an edge leads to {name!r}: there is {', '.join(names)}")

    def call(self, name: str) -> Call:
        """The call of this name."""
        return next(call for call in self.calls if call.name == name)


@dataclass(frozen=True)
class Group:
    """What is planned as one: a call, or the calls of a cycle in the order of the program."""

    calls: tuple[Call, ...]

    @property
    def name(self) -> str:
        """The stages, joined by `+`: also the name of a cycle that was profiled as it runs."""
        return "+".join(call.name for call in self.calls)


def condense(workflow: Workflow) -> tuple[tuple[Group, ...], dict[tuple[int, int], float]]:
    """The groups, and bytes per item between them.

    Calls that reach each other (strongly connected components) are one group, so that no cycle
    is left.
    """
    index = {call.name: i for i, call in enumerate(workflow.calls)}
    ends = np.array([[index[e.source], index[e.target]] for e in workflow.edges], int)
    ends = ends.reshape(-1, 2)
    count = len(workflow.calls)
    graph = csr_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, connection="strong")
    # Groups in the order in which the program first calls them.
    order = {label: i for i, label in enumerate(dict.fromkeys(labels.tolist()))}
    where = [order[label] for label in labels.tolist()]
    groups = tuple(
        Group(tuple(call for i, call in zip(where, workflow.calls, strict=True) if i == group))
        for group in range(len(order))
    )
    links: Counter[tuple[int, int]] = Counter()
    for edge in workflow.edges:
        pair = where[index[edge.source]], where[index[edge.target]]
        if pair[0] != pair[1]:
            links[pair] += edge.bytes_per_item
    return groups, dict(links)
