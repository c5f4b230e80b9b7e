"""What every oracle is: rows of blocks in, seconds out. Imports no JAX."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from loomax.nas.space.arch import Arch
from loomax.nas.space.blocks import Block, arch_blocks
from loomax.nas.space.space import Space

Source = Literal["measured", "tpu-compiler", "roofline"]
# Blocks that run one after the other: one of them, or a whole network.
Chain = tuple[Block, ...]


class Reading(NamedTuple):
    """The latency of one chain.

    Args:
        seconds: of one forward pass of the oracle's batch.
        noise: how far the median of the measurements is above the best one, as a share; 0 where
            nothing is measured.
    """

    seconds: float
    noise: float = 0.0


@dataclass(frozen=True)
class Oracle:
    """A way to find latencies.

    Args:
        device: "cpu", "v5e", "roofline-v5e".
        source: what the seconds are.
        dtype: of parameters and images.
        batch: images of one forward pass.
        version: of what measures; tables of different versions are not mixed.
        measure: gives the readings in order, some at a time, so that a table can be kept as it
            grows.
    """

    device: str
    source: Source
    dtype: str
    batch: int
    version: str
    measure: Callable[[Sequence[Chain]], Iterator[Reading]]


def chain_of(space: Space, arch: Arch) -> Chain:
    """A whole network as a chain."""
    return tuple(block for _, block in arch_blocks(space, arch))
