"""The operators of a supernet with their lanes, and the sizes that each of them takes."""

from dataclasses import dataclass
from typing import Any

from loomax.models.elastic.attention import AttentionSizes, attention_leaves, attention_operator
from loomax.models.elastic.config import (
    ConvStageConfig,
    StageConfig,
    SupernetConfig,
    TransformerStageConfig,
    layer_values,
)
from loomax.models.elastic.feed_forward import FeedForwardSizes, feed_forward_operator
from loomax.models.elastic.head import HeadSizes, head_leaves, head_operator
from loomax.models.elastic.mbconv import (
    ConvSizes,
    MBConvSizes,
    convolution_operator,
    mbconv_leaves,
    mbconv_operator,
)
from loomax.models.elastic.operator import Operator
from loomax.models.elastic.sizes import StageSizes

LAYER_FIELDS = ("kernel", "hidden", "heads", "values")


@dataclass(frozen=True)
class StagePlan:
    """The operators of a stage.

    Args:
        config: of the stage.
        first: runs once: the opening, or the first block of a stage without.
        layers: the operators of one layer; layers are stacked and scanned.
        start: number of the first stacked layer: 1 if the first block is one of the layers.
        depth: stacked layers of the largest network.
    """

    config: StageConfig
    first: Operator
    layers: tuple[Operator, ...]
    start: int
    depth: int


def layer_at(sizes: StageSizes, layer: int) -> StageSizes:
    """Sizes of a stage in which the layers' fields are those of one layer."""
    return sizes._replace(**{field: getattr(sizes, field)[layer] for field in LAYER_FIELDS})


def first_sizes(stage: StageConfig, width_in: Any, sizes: StageSizes) -> MBConvSizes | ConvSizes:
    """Sizes of a stage's first operator."""
    if isinstance(stage, TransformerStageConfig):
        hidden = stage.expand * width_in
        excite = hidden // stage.squeeze if stage.squeeze else 0
        return MBConvSizes(width_in, sizes.width, hidden, stage.kernel, excite)
    if stage.opening:
        return ConvSizes(width_in, sizes.width)
    return _block_sizes(stage, width_in, layer_at(sizes, 0))


def layer_sizes(stage: StageConfig, layer: StageSizes) -> tuple:
    """Sizes of the operators of a layer, given what `layer_at` gives."""
    if isinstance(stage, ConvStageConfig):
        return (_block_sizes(stage, layer.width, layer),)
    # Layers beyond the depth have no heads.
    value = layer.values // (layer.heads + (layer.heads == 0))
    attention = AttentionSizes(layer.width, layer.heads, value)
    return attention, FeedForwardSizes(layer.width, layer.hidden)


def _block_sizes(stage: ConvStageConfig, width_in: Any, layer: StageSizes) -> MBConvSizes:
    excite = layer.hidden // stage.squeeze if stage.squeeze else 0
    return MBConvSizes(width_in, layer.width, layer.hidden, layer.kernel, excite)


def head_sizes(config: SupernetConfig, width: Any) -> HeadSizes:
    """Sizes of the classifier."""
    return HeadSizes(width, width * max(config.expand, 1))


def stage_plans(config: SupernetConfig, reference: int | None = None) -> tuple[StagePlan, ...]:
    """The operators of all stages.

    Args:
        reference: images that give the statistics, see `loomax.models.elastic.active.batch_norm`.
    """
    side, plans = config.largest.resolution, []
    widths = [config.channels] * len(config.lanes)
    for index, stage in enumerate(config.stages):
        lanes = [lane.stages[index] for lane in config.lanes]
        pairs = zip(widths, lanes, strict=True)
        firsts = _growing([first_sizes(stage, width, lane) for width, lane in pairs])
        side, widths = -(-side // stage.stride), [lane.width for lane in lanes]
        plans.append(_stage_plan(stage, firsts, lanes, side, reference))
    return tuple(plans)


def head_plan(config: SupernetConfig) -> Operator:
    """The classifier."""
    lanes = [head_sizes(config, lane.stages[-1].width) for lane in config.lanes]
    leaves = head_leaves(bool(config.expand), config.features, config.classes)
    return head_operator(_growing(lanes), leaves)


def _stage_plan(
    stage: StageConfig,
    firsts: tuple,
    lanes: list[StageSizes],
    side: int,
    reference: int | None,
) -> StagePlan:
    start = int(isinstance(stage, ConvStageConfig) and not stage.opening)
    rows = [layer_sizes(stage, _largest_layer(lane, start)) for lane in lanes]
    columns = [_growing(column) for column in zip(*rows, strict=True)]
    depth = lanes[-1].depth - start
    if isinstance(stage, ConvStageConfig):
        squeeze = bool(stage.squeeze)
        if stage.opening:
            first = convolution_operator(firsts, stage.opening, stage.stride, reference)
        else:
            leaves = mbconv_leaves(stage.expand, squeeze, shortcut=True)
            first = mbconv_operator(firsts, leaves, stage.stride, reference)
        leaves = mbconv_leaves(stage.expand, squeeze, False)
        block = mbconv_operator(columns[0], leaves, 1, reference)
        return StagePlan(stage, first, (block,), start, depth)
    leaves = mbconv_leaves(stage.expand > 1, bool(stage.squeeze), shortcut=True)
    first = mbconv_operator(firsts, leaves, stage.stride, reference)
    inner = attention_leaves(stage.head_dim, stage.value_kernel, side * stage.bias)
    layers = (attention_operator(columns[0], inner), feed_forward_operator(columns[1]))
    return StagePlan(stage, first, layers, start, depth)


def _largest_layer(sizes: StageSizes, start: int) -> StageSizes:
    """The largest value of each layer field among the stacked layers."""
    found = {}
    for field in LAYER_FIELDS:
        values = layer_values(sizes, field)
        found[field] = max(values[start:] or values)
    return sizes._replace(**found)


def _growing(lanes: list | tuple) -> tuple:
    """The lanes without repetitions, each raised to cover those before."""
    found = []
    for lane in lanes:
        if found:
            lane = type(lane)(*(max(a, b) for a, b in zip(found[-1], lane, strict=True)))
        if not found or lane != found[-1]:
            found.append(lane)
    return tuple(found)
