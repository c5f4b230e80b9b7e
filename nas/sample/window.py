"""Architectures within a window of an additive price, all equally likely. Imports no JAX.

For every node of the graph and every budget, a table holds how many ways lead to the end; a draw
walks from the root and takes each edge in proportion to the ways behind it. Prices are rounded
down to multiples of `unit` in the table. A window is widened by what that can lose, and a drawn
architecture whose exact price is outside the window is drawn again, so that those inside stay
equally likely. With a unit that divides all prices nothing is rounded and no draw repeats.
"""

from dataclasses import dataclass

import numpy as np

from loomax.nas.sample.graph import Graph, arch_of
from loomax.nas.space.arch import Arch

TRIES = 10_000


@dataclass(frozen=True)
class WindowTable:
    """Counts of completions.

    Args:
        graph: the space's.
        unit: of the budget.
        limit: the largest price that a window may have.
        counts: [nodes, budgets + 1] at budget b: ways from the node to the end that cost less than
            b units; int64, or Python integers where the space is larger.
        steps: for each node, the units of each edge, int64 [edges].
        slack: units by which a path may be dearer than its units say.
    """

    graph: Graph
    unit: float
    limit: float
    counts: np.ndarray
    steps: tuple[np.ndarray, ...]
    slack: int


def tabulate(graph: Graph, unit: float, limit: float) -> WindowTable:
    """Counts the completions of every node for every budget up to `limit`.

    Time and memory grow with limit / unit. With a hundredth of a window's length or less, few
    draws in it repeat.

    Raises:
        ValueError: `unit` or `limit` is not above 0.
    """
    for name, value in (("unit", unit), ("limit", limit)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}: give a price above 0")
    budgets = int(limit // unit) + 2
    steps = tuple(np.floor_divide(prices, unit).astype(np.int64) for prices in graph.prices)
    dtype = np.int64 if graph.size < 2**63 else object
    ways = np.zeros((len(steps), budgets), dtype)
    ways[0, 0] = 1
    for node, (units, nexts) in enumerate(zip(steps, graph.nexts, strict=True)):
        for cost, after, times in _merged(units, nexts, budgets):
            ways[node, cost:] += ways[after, : budgets - cost] * times
    counts = np.zeros((len(steps), budgets + 1), dtype)
    np.cumsum(ways, axis=1, out=counts[:, 1:])
    return WindowTable(graph, unit, limit, counts, steps, _slack(graph, unit, steps))


def _merged(units: np.ndarray, nexts: np.ndarray, budgets: int) -> list[tuple[int, int, int]]:
    """(units, next node, number of such edges) within the budget."""
    inside = units < budgets
    pairs, times = np.unique(np.stack([units[inside], nexts[inside]]), axis=1, return_counts=True)
    return list(zip(*pairs.tolist(), times.tolist(), strict=True))


def _slack(graph: Graph, unit: float, steps: tuple[np.ndarray, ...]) -> int:
    """The largest number of rounded edges on a path: each loses less than one unit."""
    most = np.zeros(len(steps), np.int64)
    for node, (prices, units, nexts) in enumerate(
        zip(graph.prices, steps, graph.nexts, strict=True)
    ):
        if len(nexts):
            most[node] = np.max(most[nexts] + (prices != units * unit))
    return int(most[-1])


def ways_within(table: WindowTable, low: float, high: float) -> int:
    """How many architectures the draws choose from: all with low <= price <= high, and those
    that only rounding puts there. Exact where the unit divides all prices.

    Raises:
        ValueError: the window is above the table's limit, or ends before it starts.
    """
    first, last = _budgets(table, low, high)
    return int(table.counts[-1, last] - table.counts[-1, first])


def _budgets(table: WindowTable, low: float, high: float) -> tuple[int, int]:
    """[first, last) of the budgets in units that may lie in the window."""
    if not 0 <= low <= high <= table.limit:
        raise ValueError(
            f"the window is [{low}, {high}]: give 0 <= low <= high <= {table.limit}, the table's"
            " limit"
        )
    if table.slack:  # and one unit more, for divisions that are a bit off
        return max(int(low // table.unit) - table.slack, 0), int(high // table.unit) + 2
    return int(-(-low // table.unit)), int(high // table.unit) + 1


def draw(table: WindowTable, low: float, high: float, rng: np.random.Generator) -> Arch:
    """An architecture with low <= price <= high, uniform over all of them.

    Raises:
        ValueError: there is none, or the window is above the table's limit.
    """
    first, last = _budgets(table, low, high)
    total = int(table.counts[-1, last] - table.counts[-1, first])
    for _ in range(TRIES if total else 0):
        path, price = _walk(table, first, last, below(rng, total))
        if low <= price <= high:
            return arch_of(table.graph.space, path)
    raise ValueError(f"no architecture costs between {low} and {high}: give a wider window")


def below(rng: np.random.Generator, bound: int) -> int:
    """A whole number in [0, bound), uniform, whatever the size of the bound."""
    if bound < 2**63:
        return int(rng.integers(bound))
    bits = bound.bit_length()
    while True:
        number = int.from_bytes(rng.bytes(-(-bits // 8)), "little") & ((1 << bits) - 1)
        if number < bound:
            return number


def _walk(table: WindowTable, first: int, last: int, rank: int) -> tuple[list[dict], float]:
    """The path with this rank among those whose units lie in [first, last), and its price."""
    graph, node, path, price = table.graph, len(table.steps) - 1, [], 0
    while len(graph.nexts[node]):
        units, nexts = table.steps[node], graph.nexts[node]
        ways = (
            table.counts[nexts, np.maximum(last - units, 0)]
            - table.counts[nexts, np.maximum(first - units, 0)]
        )
        ends = np.cumsum(ways)
        edge = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[edge] - ways[edge])
        path.append(graph.choices[node][edge])
        price += graph.prices[node][edge].item()
        first, last = max(first - int(units[edge]), 0), last - int(units[edge])
        node = int(nexts[edge])
    return path, price
