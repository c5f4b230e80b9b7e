"""Active sizes of a network, as a pytree. Imports no JAX.

`loomax.nas.space.encode` gives values with the same fields; the models need the fields only.
"""

from typing import Any, NamedTuple


class StageSizes(NamedTuple):
    """Active sizes of a stage: whole numbers, or int32 arrays. Layers beyond the depth hold 0.

    Args:
        width: [], channels.
        depth: [], layers.
        kernel: [layers], side of the depthwise kernel (conv).
        hidden: [layers], hidden width of the MBConv or feed-forward layer.
        heads: [layers] (transformer).
        values: [layers], width of all heads' values together (transformer).
    """

    width: Any
    depth: Any
    kernel: Any
    hidden: Any
    heads: Any
    values: Any


class Sizes(NamedTuple):
    """Active sizes of a network: the input's side, pixels, and its stages."""

    resolution: Any
    stages: tuple[StageSizes, ...]


def freeze(sizes: Any) -> Sizes:
    """Sizes as ints and tuples of ints: hashable, and known when a program is built.

    Args:
        sizes: anything with the fields of `Sizes`, not traced.
    """

    def frozen(value: Any) -> Any:
        value = value.tolist() if hasattr(value, "tolist") else value
        return tuple(int(v) for v in value) if isinstance(value, list | tuple) else int(value)

    stages = [
        StageSizes(*(frozen(getattr(stage, field)) for field in StageSizes._fields))
        for stage in sizes.stages
    ]
    return Sizes(int(sizes.resolution), tuple(stages))
