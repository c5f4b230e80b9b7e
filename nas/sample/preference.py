"""Which of several candidates is worth training: more width rather than more depth. No JAX.

Source: path preference of performance-aware sampling, arXiv 2303.09730, with the rule of the
public code.
"""

from dataclasses import replace

from loomax.nas.sample.graph import Price
from loomax.nas.space.arch import LAYER_FIELDS, Arch, StageArch
from loomax.nas.space.blocks import arch_blocks
from loomax.nas.space.space import Space
from loomax.nas.space.stages import TransformerStage


def price_of(space: Space, arch: Arch, price: Price) -> float:
    """The sum of the prices of an architecture's blocks."""
    return sum(price(block) for _, block in arch_blocks(space, arch))


def preference(space: Space, arch: Arch, anchor: Arch, price: Price) -> float:
    """The smaller, the better: price with the anchor's widths minus price with its depths.

    Only transformer stages are compared; in a space without any, all stages are.
    """
    attend = [isinstance(stage, TransformerStage) for stage in space.stages]
    taken = attend if any(attend) else [True] * len(attend)
    rows = list(zip(taken, arch.stages, anchor.stages, strict=True))
    widths = [replace(own, width=other.width) if take else own for take, own, other in rows]
    depths = [_with_depth(own, other.depth) if take else own for take, own, other in rows]
    return price_of(space, replace(arch, stages=tuple(widths)), price) - price_of(
        space, replace(arch, stages=tuple(depths)), price
    )


def _with_depth(chosen: StageArch, depth: int) -> StageArch:
    """The stage cut, or its last layer repeated."""
    layers = {}
    for field in LAYER_FIELDS:
        values = getattr(chosen, field)
        layers[field] = (values + values[-1:] * depth)[:depth]
    return replace(chosen, depth=depth, **layers)
