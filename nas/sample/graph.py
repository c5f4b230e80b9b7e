"""A space as a graph of choices with an additive price. Imports no JAX.

Every path from the root to the end is one architecture, and the sum of its edges is its price.
What one choice does to the price of a later one is in the node: the side of the feature map and
the width of the stage before; inside a layerwise stage also the layers that are left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from loomax.nas.space.arch import Arch, StageArch
from loomax.nas.space.blocks import (
    Block,
    classifier_block,
    layer_block,
    opening_blocks,
)
from loomax.nas.space.space import Space
from loomax.nas.space.stages import Stage

Price = Callable[[Block], float]
START, STAGE, LAYER, HEAD, END = "start", "stage", "layer", "head", "end"
# (kind, stage, side, width_in, width, layers left, whether the next layer is the first)
Node = tuple[str, int, int, int, int, int, bool]
# (price, node that follows, what was chosen: field -> value)
Edge = tuple[float, Node, dict]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which edges lead to lower numbers; 0 is the end, the last the root.

    Args:
        space: whose architectures the paths are.
        prices: for each node, the prices of its edges: float64 or int64 [edges].
        nexts: for each node, the numbers of the nodes that its edges lead to: int64 [edges].
        choices: for each node, what its edges choose.
        paths: for each node, the number of paths from it to the end.
    """

    space: Space
    prices: tuple[np.ndarray, ...]
    nexts: tuple[np.ndarray, ...]
    choices: tuple[tuple[dict, ...], ...]
    paths: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of architectures."""
        return self.paths[-1]


def build_graph(space: Space, price: Price | Mapping[Block, float]) -> Graph:
    """The graph of a space.

    Args:
        price: what one block costs, 0 or more: a function (`count.macs`), or a table with every
            block of the space (`distinct_blocks`), such as one of latencies. Whole numbers are
            added exactly, others as floating-point numbers.

    Raises:
        ValueError: a price is missing, negative or not finite; the block is named.
    """
    priced = checked(price)
    numbers: dict[Node, int] = {}
    prices, nexts, choices, paths = [], [], [], []

    def visit(node: Node) -> int:
        if node in numbers:
            return numbers[node]
        edges = _edges(space, node, priced)
        after = [visit(edge[1]) for edge in edges]
        numbers[node] = len(prices)
        prices.append(np.asarray([edge[0] for edge in edges]))
        nexts.append(np.asarray(after, np.int64))
        choices.append(tuple(edge[2] for edge in edges))
        paths.append(sum(paths[number] for number in after) if edges else 1)
        return numbers[node]

    visit((START, 0, 0, 0, 0, 0, False))
    return Graph(space, tuple(prices), tuple(nexts), tuple(choices), tuple(paths))


def distinct_blocks(space: Space) -> tuple[Block, ...]:
    """Every block of the space's architectures once: what a cost table has to hold."""
    seen: dict[Block, None] = {}

    def note(block: Block) -> float:
        seen[block] = None
        return 0

    build_graph(space, note)
    return tuple(seen)


def checked(price: Price | Mapping[Block, float]) -> Price:
    """The price as a function that remembers, and that raises ValueError for a bad one."""
    known: dict[Block, float] = {}

    def lookup(block: Block) -> float:
        if isinstance(price, Mapping):
            if block not in price:
                raise ValueError(f"the table has no price for {block}: give every distinct block")
            return price[block]
        return price(block)

    def priced(block: Block) -> float:
        if block not in known:
            value = lookup(block)
            if not 0 <= value < float("inf"):
                raise ValueError(f"the price of {block} is {value}: give 0 or more")
            known[block] = value
        return known[block]

    return priced


def _edges(space: Space, node: Node, price: Price) -> list[Edge]:
    kind, index, side, width_in = node[:4]
    if kind == START:
        return [
            (0, (STAGE, 0, side, space.channels, 0, 0, False), {"resolution": side})
            for side in space.resolutions
        ]
    if kind == STAGE:
        layered = space.stages[index].layerwise
        return (_depth_edges if layered else _stage_edges)(space, index, side, width_in, price)
    if kind == LAYER:
        return _layer_edges(space, node, price)
    if kind == HEAD:
        end = (END, 0, 0, 0, 0, 0, False)
        return [(price(classifier_block(space, side, width_in)), end, {})]
    return []


def _after(space: Space, index: int, side: int, width: int) -> Node:
    """The node behind stage `index`."""
    kind = STAGE if index + 1 < len(space.stages) else HEAD
    return (kind, index + 1, side, width, 0, 0, False)


def _stage_edges(space: Space, index: int, side: int, width_in: int, price: Price) -> list[Edge]:
    """All choices of a stage whose layers are alike."""
    stage, edges = space.stages[index], []
    after = -(-side // stage.stride)
    for width in space.widths_after(index, width_in):
        opening = sum(price(block) for block in opening_blocks(stage, side, width_in, width))
        place = (after, width) if stage.opening else (side, width_in)
        node = _after(space, index, after, width)
        for values in _layer_choices(stage):
            first = price(layer_block(stage, *place, width, values, True))
            later = 0
            if stage.depth[-1] > 1:
                later = price(layer_block(stage, after, width, width, values, False))
            for depth in stage.depth:
                chosen = {"width": width, "depth": depth} | values
                edges.append((opening + first + (depth - 1) * later, node, chosen))
    return edges


def _depth_edges(space: Space, index: int, side: int, width_in: int, price: Price) -> list[Edge]:
    """Width and depth of a stage whose layers are chosen one by one."""
    stage, edges = space.stages[index], []
    for width in space.widths_after(index, width_in):
        opening = sum(price(block) for block in opening_blocks(stage, side, width_in, width))
        place = (-(-side // stage.stride), width) if stage.opening else (side, width_in)
        for depth in stage.depth:
            node = (LAYER, index, *place, width, depth, True)
            edges.append((opening, node, {"width": width, "depth": depth}))
    return edges


def _layer_edges(space: Space, node: Node, price: Price) -> list[Edge]:
    _, index, side, width_in, width, left, first = node
    stage = space.stages[index]
    strided = first and stage.opening is None
    after = -(-side // stage.stride) if strided else side
    following = (LAYER, index, after, width, width, left - 1, False)
    if left == 1:
        following = _after(space, index, after, width)
    return [
        (price(layer_block(stage, side, width_in, width, values, first)), following, values)
        for values in _layer_choices(stage)
    ]


def _layer_choices(stage: Stage) -> list[dict]:
    fields = stage.layer_fields
    return [
        dict(zip(fields, row, strict=True))
        for row in product(*(getattr(stage, field) for field in fields))
    ]


def arch_of(space: Space, path: list[dict]) -> Arch:
    """The architecture that the choices along a path make."""
    resolution, stages, rest = path[0]["resolution"], [], iter(path[1:])
    for stage in space.stages:
        chosen = next(rest)
        width, depth = chosen["width"], chosen["depth"]
        layers = [next(rest) for _ in range(depth)] if stage.layerwise else [chosen] * depth
        fields = {name: tuple(layer[name] for layer in layers) for name in stage.layer_fields}
        stages.append(StageArch(width, depth, **fields))
    return Arch(resolution, tuple(stages))
