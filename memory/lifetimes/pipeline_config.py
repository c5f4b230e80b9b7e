"""Sizes of a pipelined model. Imports no JAX."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BlockConfig:
    """One transformer layer.

    Args:
        batch: sequences of a microbatch.
        length: positions of a sequence.
        width: of the activations.
        heads: of the attention.
        hidden: width of the feed-forward part, or of each expert.
        experts: of a mixture of experts; 0: dense.
        local: how many of the experts are on this device.
        chosen: experts for each token.
    """

    batch: int = 1
    length: int = 1024
    width: int = 1024
    heads: int = 8
    hidden: int = 4096
    experts: int = 0
    local: int = 4
    chosen: int = 2

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}: make it a multiple of heads, {self.heads}")
        if self.experts and not self.chosen <= self.experts >= self.local:
            raise ValueError(
                f"experts is {self.experts}: give at least chosen ({self.chosen}) and local "
                f"({self.local})"
            )


@dataclass(frozen=True)
class PipelineConfig:
    """One device of a pipeline.

    Args:
        block: a layer.
        layers: on this device, over all chunks.
        stages: devices in the pipeline.
        chunks: of the device's layers (virtual pipeline).
        microbatches: of an iteration.
        device: which of the stages; the first holds most activations.
        recompute: the forward phase keeps each layer's input only, and the backward phase runs the
            layer again.
        alignment: of each buffer.
    """

    block: BlockConfig = field(default_factory=BlockConfig)
    layers: int = 6
    stages: int = 4
    chunks: int = 1
    microbatches: int = 8
    device: int = 0
    recompute: bool = False
    alignment: int = 512

    def __post_init__(self):
        if self.chunks < 1 or self.layers % self.chunks:
            raise ValueError(
                f"chunks is {self.chunks}: give 1 or more that divide the {self.layers} layers"
            )
