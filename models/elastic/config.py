"""What a supernet is made of: fixed choices of its stages, and lanes of sizes. Imports no JAX."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from loomax.models.elastic.sizes import Sizes, StageSizes, freeze

# More branches compile longer and save little: see docs/nas.md.
MOST_LANES = 4


@dataclass(frozen=True)
class ConvStageConfig:
    """A stage of MBConv blocks.

    Args:
        stride: of the stage: its opening's, else its first block's.
        squeeze: squeeze-and-excite's hidden width is 1/squeeze of the block's; 0 leaves it out.
        expand: whether blocks have an expanding 1x1 convolution; without, hidden = input width.
        opening: side of the kernel of a convolution before the blocks; 0 leaves it out.
    """

    stride: int = 1
    squeeze: int = 0
    expand: bool = True
    opening: int = 0


@dataclass(frozen=True)
class TransformerStageConfig:
    """A stage of attention and feed-forward layers behind an MBConv block.

    Args:
        head_dim: width of a head's queries and keys.
        value_kernel: side of the depthwise convolution on the values; 0 leaves it out.
        bias: whether attention has a table of relative positions.
        stride: of the opening block.
        kernel, expand, squeeze: of the opening block; as in `ConvStageConfig`, expand a factor.
    """

    head_dim: int = 16
    value_kernel: int = 3
    bias: bool = True
    stride: int = 1
    kernel: int = 3
    expand: int = 6
    squeeze: int = 4


StageConfig = ConvStageConfig | TransformerStageConfig


@dataclass(frozen=True)
class SupernetConfig:
    """A supernet.

    Args:
        stages: from the image to the classifier.
        lanes: sizes of up to 4 networks that grow, with the fields of `Sizes`. An operator runs
            at the sizes of the first lane that covers its active ones, with masks inside. The
            first one covers its own sizes only, without masks, so it should be the smallest
            network; the last is the largest, whose sizes are those of the parameters.
        classes: outputs.
        expand: the head's 1x1 convolution has expand x width channels; 0 leaves it out.
        features: width of a layer between pooling and classifier; 0 leaves it out.
        channels: of the image.

    Raises:
        ValueError: no lanes or too many, a lane that shrinks, a number of stages that differs.
    """

    stages: tuple[StageConfig, ...]
    lanes: tuple[Any, ...]
    classes: int
    expand: int = 0
    features: int = 0
    channels: int = 3

    def __post_init__(self):
        if not 1 <= len(self.lanes) <= MOST_LANES:
            raise ValueError(f"{len(self.lanes)} lanes: give 1 to {MOST_LANES}")
        object.__setattr__(self, "lanes", tuple(freeze(lane) for lane in self.lanes))
        for lane in self.lanes:
            if len(lane.stages) != len(self.stages):
                raise ValueError(
                    f"a lane has {len(lane.stages)} stages: give {len(self.stages)}, as the config"
                )
        for small, large in pairwise(self.lanes):
            check_covered(small, large)

    @property
    def largest(self) -> Sizes:
        """The network whose sizes are those of the parameters."""
        return self.lanes[-1]


def layer_values(stage: StageSizes, field: str) -> tuple[int, ...]:
    """A layer field's values of the active layers."""
    return getattr(stage, field)[: stage.depth]


def check_covered(small: Sizes, large: Sizes) -> None:
    """Checks that every size of `small` fits into `large`; both frozen.

    Raises:
        ValueError: names the stage, the field, the value and the bound.
    """
    if len(small.stages) != len(large.stages):
        raise ValueError(f"sizes have {len(small.stages)} stages: give {len(large.stages)}")
    if small.resolution > large.resolution:
        raise ValueError(f"resolution is {small.resolution}: give at most {large.resolution}")
    for index, (stage, bound) in enumerate(zip(small.stages, large.stages, strict=True)):
        for field in StageSizes._fields:
            value, most = getattr(stage, field), getattr(bound, field)
            if field not in ("width", "depth"):
                value, most = max(layer_values(stage, field)), max(layer_values(bound, field))
            if value > most or stage.depth < 1:
                raise ValueError(f"stage {index}: {field} is {value}: give 1 to {most}")
