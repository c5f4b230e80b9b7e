"""What a fixed network consists of: enough to build it again for a checkpoint. Imports no JAX."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvSpec:
    """Convolution, batch norm, hard-swish; sides of kernel and stride in pixels."""

    width_in: int
    width: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class MBConvSpec:
    """An MBConv block.

    Args:
        hidden: channels of the depthwise convolution.
        squeeze: hidden width of squeeze-and-excite; 0 without.
        expand: whether a 1x1 convolution leads to `hidden`.
    """

    width_in: int
    width: int
    hidden: int
    kernel: int
    stride: int
    squeeze: int
    expand: bool


@dataclass(frozen=True)
class AttentionSpec:
    """An attention layer.

    Args:
        value: width of one head's values.
        value_kernel: side of the depthwise convolution on the values; 0 without.
        side: tokens along a side, for the table of positions; 0 without.
    """

    width: int
    heads: int
    head_dim: int
    value: int
    value_kernel: int
    side: int


@dataclass(frozen=True)
class FeedForwardSpec:
    """A feed-forward layer."""

    width: int
    hidden: int


@dataclass(frozen=True)
class HeadSpec:
    """The classifier; hidden (1x1 convolution) and features (a layer) are 0 without."""

    width: int
    hidden: int
    features: int
    classes: int


BlockSpec = ConvSpec | MBConvSpec | AttentionSpec | FeedForwardSpec | HeadSpec


@dataclass(frozen=True)
class NetworkSpec:
    """A network for images of `resolution` pixels: blocks in a row, the last one a head."""

    resolution: int
    blocks: tuple[BlockSpec, ...]
