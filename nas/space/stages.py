"""Stages of a search space: what each may choose, and what is fixed. Imports no JAX."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from loomax.runtime.config import unknown

POSITIONS = ("none", "bias", "absolute")
OPENINGS = ("conv", "patch", "mbconv")


@dataclass(frozen=True)
class Opening:
    """The layer before a stage's own layers, which takes the stage's width and stride.

    Args:
        kind: "conv" (with a norm), "patch" (kernel = stride, bias, no norm) or "mbconv".
        kernel: side of its kernel, pixels.
        expand: "mbconv" only: hidden width over input width.
        squeeze: "mbconv" only: squeeze-and-excite's hidden width is 1/squeeze; 0 leaves it out.
    """

    kind: str
    kernel: int
    expand: int = 1
    squeeze: int = 0

    def __post_init__(self):
        if self.kind not in OPENINGS:
            raise ValueError(unknown("opening", self.kind, OPENINGS))


@dataclass(frozen=True)
class ConvStage:
    """A stage of MBConv blocks (inverted bottlenecks with a depthwise convolution).

    The first block changes the width, and the resolution by `stride`, unless there is an
    `opening` that does. A block's hidden width is int(expand x its input width); with expand 1
    alone it has no expanding convolution. Where the width changes, the skip path is average
    pooling and a 1x1 convolution.

    Args:
        name: unique within a space.
        width: choices of output channels.
        depth: choices of the number of blocks.
        kernel: choices of the depthwise kernel's side.
        expand: choices of hidden width over input width.
        stride: of the stage.
        squeeze: squeeze-and-excite's hidden width is 1/squeeze; 0 leaves it out.
        opening: a layer before the blocks.
        layerwise: whether kernel and expand are chosen for each block; else once for the stage.
    """

    name: str
    width: tuple[int, ...]
    depth: tuple[int, ...]
    kernel: tuple[int, ...] = (3,)
    expand: tuple[float, ...] = (4,)
    stride: int = 1
    squeeze: int = 0
    opening: Opening | None = None
    layerwise: bool = False

    def __post_init__(self):
        check_choices(self, ("width", "depth", "kernel", "expand"))

    @property
    def layer_fields(self) -> tuple[str, ...]:
        """Names of what is chosen for a layer."""
        return ("kernel", "expand")


@dataclass(frozen=True)
class TransformerStage:
    """A stage of pre-norm transformer layers: attention, then an MLP.

    Queries and keys are heads x head_dim wide, values v_scale times that.

    Args:
        name: unique within a space.
        width: choices of the embedding's width.
        depth: choices of the number of layers.
        opening: the layer that gives the tokens their width.
        expand: choices of the MLP's hidden width over the width.
        heads: choices of the number of heads; () takes width / head_dim.
        head_dim: width of a head's queries and keys.
        v_scale: choices of the values' width over the queries'.
        value_kernel: side of a depthwise convolution on the values; 0 leaves it out.
        stride: of the opening.
        position: "bias" (a table of relative positions per layer and head), "absolute" (added
            once, after the opening) or "none".
        qkv_bias: whether queries, keys and values have biases.
        class_token: whether one more token is prepended, which the head reads.
        layerwise: whether expand, heads and v_scale are chosen for each layer; else once.
    """

    name: str
    width: tuple[int, ...]
    depth: tuple[int, ...]
    opening: Opening
    expand: tuple[float, ...] = (4,)
    heads: tuple[int, ...] = ()
    head_dim: int = 64
    v_scale: tuple[int, ...] = (1,)
    value_kernel: int = 0
    stride: int = 1
    position: str = "none"
    qkv_bias: bool = False
    class_token: bool = False
    layerwise: bool = False

    def __post_init__(self):
        check_choices(self, ("width", "depth", "expand", "v_scale") + ("heads",) * bool(self.heads))
        if self.position not in POSITIONS:
            raise ValueError(
                f"stage {self.name!r}: {unknown('position', self.position, POSITIONS)}"
            )
        if not self.heads and any(width % self.head_dim for width in self.width):
            raise ValueError(
                f"stage {self.name!r}: width {self.width} is not a multiple of head_dim"
                f" {self.head_dim}: give such widths, or choices of heads"
            )
        if self.opening.kind == "patch" and self.opening.kernel != self.stride:
            raise ValueError(
                f"stage {self.name!r}: a patch opening's kernel is {self.opening.kernel} and the"
                f" stride {self.stride}: give equal ones"
            )

    @property
    def layer_fields(self) -> tuple[str, ...]:
        """Names of what is chosen for a layer."""
        return ("expand",) + ("heads",) * bool(self.heads) + ("v_scale",)


Stage = ConvStage | TransformerStage


def check_choices(stage: Stage, fields: Sequence[str]) -> None:
    """Raises ValueError unless each field holds growing choices above 0 that stay distinct."""
    for field in fields:
        choices = getattr(stage, field)
        if not choices or choices[0] <= 0 or any(a >= b for a, b in pairwise(choices)):
            raise ValueError(
                f"stage {stage.name!r}: {field} is {choices}: give choices above 0 that grow"
            )
    check_hidden(stage, stage.width[0])


def check_hidden(stage: Stage, width: int) -> None:
    """Raises ValueError if two choices of expand give one hidden width from `width` channels."""
    steps = [b - a for a, b in pairwise(stage.expand)]
    if steps and min(steps) * width < 1:
        raise ValueError(
            f"stage {stage.name!r}: expand {stage.expand} gives equal hidden widths at width"
            f" {width}: give fewer choices or wider layers"
        )
