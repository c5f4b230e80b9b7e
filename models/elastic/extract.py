"""From a supernet to a fixed network: the slices of the parameters that one subnet uses."""

from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, PyTree

from loomax.models.elastic.config import SupernetConfig, TransformerStageConfig, check_covered
from loomax.models.elastic.deploy.network import Network
from loomax.models.elastic.deploy.spec import (
    AttentionSpec,
    BlockSpec,
    ConvSpec,
    FeedForwardSpec,
    HeadSpec,
    MBConvSpec,
    NetworkSpec,
)
from loomax.models.elastic.leaves import cut
from loomax.models.elastic.mbconv import ConvSizes
from loomax.models.elastic.plan import (
    StagePlan,
    first_sizes,
    head_plan,
    head_sizes,
    layer_at,
    layer_sizes,
    stage_plans,
)
from loomax.models.elastic.sizes import Sizes, StageSizes, freeze
from loomax.models.initialise import CountedDraws

Part = tuple[BlockSpec, dict[str, Array]]


def extract(
    config: SupernetConfig, parameters: PyTree, sizes: Any
) -> tuple[NetworkSpec, list[dict[str, Array]]]:
    """The spec of a subnet, and the parameters of each of its blocks: nothing else is kept.

    Args:
        sizes: with the fields of `Sizes`, not traced.

    Raises:
        ValueError: sizes that do not fit into the supernet.
    """
    sizes = freeze(sizes)
    check_covered(sizes, config.largest)
    parts = list(_parts(config, parameters, sizes))
    spec = NetworkSpec(sizes.resolution, tuple(spec for spec, _ in parts))
    return spec, [own for _, own in parts]


def build(spec: NetworkSpec, parameters: list[dict[str, Array]]) -> Network:
    """A network with the parameters that `extract` gave.

    Its batch norms have no statistics yet: see `loomax.models.elastic.deploy.network.calibrate`.
    """
    network = Network(spec, rngs=CountedDraws())
    for block, own in zip(network.blocks, parameters, strict=True):
        for name, value in own.items():
            _variable(block, name)[...] = value
    return network


def _variable(block: nnx.Module, name: str) -> Any:
    if hasattr(block, name):
        return getattr(block, name)
    norm, field = name.rsplit("_", 1)
    return getattr(getattr(block, f"{norm}_norm"), field)


def _parts(config: SupernetConfig, parameters: PyTree, sizes: Sizes) -> Iterator[Part]:
    width, side = config.channels, sizes.resolution
    stages = zip(stage_plans(config), parameters["stages"], sizes.stages, strict=True)
    for plan, p, stage in stages:
        yield _first(plan, p["first"], first_sizes(plan.config, width, stage))
        side, width = -(-side // plan.config.stride), stage.width
        for index in range(plan.start, stage.depth):
            own = jax.tree.map(lambda leaf, at=index - plan.start: leaf[at], p["layers"])
            yield from _layer(plan, own, layer_at(stage, index), side)
    operator, size = head_plan(config), head_sizes(config, width)
    hidden = size.hidden if config.expand else 0
    spec = HeadSpec(width, hidden, config.features, config.classes)
    yield spec, cut(operator.leaves, parameters["head"], size)


def _first(plan: StagePlan, parameters: dict, sizes: Any) -> Part:
    own = cut(plan.first.leaves, parameters, sizes)
    if isinstance(sizes, ConvSizes):
        return ConvSpec(*sizes, plan.config.opening, plan.config.stride), own
    if sizes.width_in == sizes.width:
        own.pop("shortcut")
    return _mbconv(sizes, plan.config.stride, own), own


def _mbconv(sizes: Any, stride: int, own: dict) -> MBConvSpec:
    width_in, width, hidden, kernel, squeeze = sizes
    return MBConvSpec(width_in, width, hidden, kernel, stride, squeeze, "expand" in own)


def _layer(plan: StagePlan, parameters: list, layer: StageSizes, side: int) -> Iterator[Part]:
    sizes = layer_sizes(plan.config, layer)
    operators = zip(plan.layers, parameters, sizes, strict=True)
    owns = [cut(operator.leaves, own, size) for operator, own, size in operators]
    if not isinstance(plan.config, TransformerStageConfig):
        yield _mbconv(sizes[0], 1, owns[0]), owns[0]
        return
    attention, feed_forward = sizes
    stage = plan.config
    if stage.bias:
        table = owns[0]["position"]
        start = table.shape[0] // 2 - (side - 1)
        part = slice(start, start + 2 * side - 1)
        owns[0]["position"] = table[part, part]
    spec = AttentionSpec(
        attention.width,
        attention.heads,
        stage.head_dim,
        attention.value,
        stage.value_kernel,
        side * stage.bias,
    )
    yield spec, owns[0]
    yield FeedForwardSpec(*feed_forward), owns[1]
