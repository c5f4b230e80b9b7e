"""Networks within a window of latency: drawn, or checked. Imports no JAX."""

from dataclasses import dataclass

import numpy as np

from loomax.nas.oracle.predict import Predictor
from loomax.nas.sample.graph import Graph, build_graph
from loomax.nas.sample.window import WindowTable, draw, tabulate, ways_within
from loomax.nas.space.arch import Arch

# Of the window: what sums in another order may differ by.
_ROUNDING = 1e-9
# Units of the sampler's budget.
_UNITS = 500


@dataclass(frozen=True)
class Constraint:
    """All networks with low <= predicted latency <= high.

    Args:
        latency: predicts seconds.
        low, high: seconds.
        table: the sampler's, of latencies without the constant.
    """

    latency: Predictor
    low: float
    high: float
    table: WindowTable

    def holds(self, seconds: float) -> bool:
        """Whether a latency is in the window."""
        return self.low * (1 - _ROUNDING) <= seconds <= self.high * (1 + _ROUNDING)

    def draw(self, rng: np.random.Generator) -> Arch:
        """A network of the window, all equally likely."""
        return draw(self.table, *self._bounds, rng)

    @property
    def size(self) -> int:
        """Networks in the window, and a few beside it that the sampler's units cannot tell."""
        return ways_within(self.table, *self._bounds)

    @property
    def _bounds(self) -> tuple[float, float]:
        return _without(self.latency, self.low, self.high)


def _without(latency: Predictor, low: float, high: float) -> tuple[float, float]:
    """The window of the blocks' sum alone."""
    constant = latency.constant
    top = max(high * (1 + _ROUNDING) - constant, 0.0)
    return min(max(low * (1 - _ROUNDING) - constant, 0.0), top), top


def make_constraint(latency: Predictor, high: float, low: float = 0.0) -> Constraint:
    """Prepares the sampler.

    Args:
        low, high: of the window, seconds.

    Raises:
        ValueError: no network is that fast, or that slow (the fastest and slowest are named).
    """
    if not 0 <= low <= high:
        raise ValueError(
            f"the window of latencies is {low * 1e3:g} to {high * 1e3:g} ms: give 0 <= low <= high"
        )
    graph = build_graph(latency.space, latency.prices)
    fastest, slowest = (latency.constant + end for end in extremes(graph))
    if high < fastest:
        raise ValueError(
            f"no network takes {high * 1e3:g} ms or less: the fastest one of the space takes"
            f" {round_up(fastest * 1e3)} ms; give at least that"
        )
    if low > slowest:
        raise ValueError(
            f"no network takes {low * 1e3:g} ms or more: the slowest one of the space takes"
            f" {slowest * 1e3:.4g} ms; give less"
        )
    bounds = _without(latency, low, min(high, slowest))
    limit = max(bounds[1], np.finfo(float).tiny)
    table = tabulate(graph, limit / _UNITS, limit)
    constraint = Constraint(latency, low, min(high, slowest), table)
    if not constraint.size:
        raise ValueError(
            f"no network takes {low * 1e3:g} to {high * 1e3:g} ms: give a wider window"
        )
    return constraint


def extremes(graph: Graph) -> tuple[float, float]:
    """The lowest and the highest price of a path."""
    low, high = np.zeros(len(graph.nexts)), np.zeros(len(graph.nexts))
    for node, (prices, nexts) in enumerate(zip(graph.prices, graph.nexts, strict=True)):
        if len(nexts):
            low[node] = np.min(prices + low[nexts])
            high[node] = np.max(prices + high[nexts])
    return float(low[-1]), float(high[-1])


def round_up(value: float) -> str:
    """Four digits, not below the value: what is printed can be given."""
    text = f"{value:.4g}"
    step = 10.0 ** (np.floor(np.log10(value)) - 3) if value > 0 else 0.0
    return text if float(text) >= value else f"{value + step:.4g}"
