"""The least time that a block's arithmetic and memory traffic take. Imports no JAX."""

from loomax.nas.oracle.chips import ITEM_BYTES, Chip
from loomax.nas.space.blocks import Block, Conv, MBConv
from loomax.nas.space.count import parts

# They change what the next operator reads no further than by a factor for each channel.
_ASIDE = ("squeeze", "norm")


def roofline(block: Block, chip: Chip, dtype: str, batch: int = 1) -> float:
    """Seconds of one forward pass: the sum over operators of the larger one of two times, that
    of 2 operations a MAC at the peak, and that of the operator's bytes through the memory.

    An operator reads its weights and what the one before wrote, and writes its outputs: nothing
    is fused, and nothing is faster than the peak.

    Args:
        dtype: "float32", "bfloat16" or "int8".
        batch: images.
    """
    peak, size = chip.flops[dtype], ITEM_BYTES[dtype]
    first = held = _inputs(block)
    seconds = 0.0
    for part in parts(block):
        read = first if part.name == "shortcut" else held
        moved = size * (part.params + batch * (read + part.outputs))
        seconds += max(2 * batch * part.macs / peak, moved / chip.bandwidth)
        if part.name not in _ASIDE:
            held = part.outputs
    return seconds


def _inputs(block: Block) -> int:
    """Elements that a block reads, for one image."""
    channels = block.width_in if isinstance(block, Conv | MBConv) else block.width
    return block.side**2 * channels
