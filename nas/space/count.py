"""Exact costs of blocks and architectures: MACs, parameters, activations. Imports no JAX.

A MAC is one multiplication and addition of a matrix product or convolution; norms, activations,
softmax, biases and additions count none. Convolutions keep ceil(side / stride) pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from loomax.nas.space.arch import Arch
from loomax.nas.space.blocks import (
    Block,
    Classifier,
    Conv,
    MBConv,
    Tokens,
    Transformer,
    arch_blocks,
)
from loomax.nas.space.space import Space


@dataclass(frozen=True)
class Part:
    """One operator of a block.

    Args:
        name: such as "depthwise".
        macs: for one image.
        params: trainable values; running statistics of norms are not.
        outputs: elements that it writes for one image.
    """

    name: str
    macs: int
    params: int
    outputs: int


@dataclass(frozen=True)
class Row:
    """One operator of an architecture: the stage's name, the block's index in it, the part."""

    stage: str
    block: int
    part: Part


@dataclass(frozen=True)
class Cost:
    """Totals for one image."""

    macs: int
    params: int
    outputs: int

    def weight_bytes(self, itemsize: int) -> int:
        """Bytes of the parameters, `itemsize` bytes each."""
        return self.params * itemsize

    def activation_bytes(self, itemsize: int) -> int:
        """Bytes that all operators write for one image, `itemsize` bytes each."""
        return self.outputs * itemsize


def parts(block: Block) -> tuple[Part, ...]:
    """The operators of a block with their costs."""
    return _PARTS[type(block)](block)


def _conv(block: Conv) -> tuple[Part, ...]:
    area = (-(-block.side // block.stride)) ** 2
    weights = block.kernel**2 * block.width_in * block.width
    extra = (2 if block.norm else 1) * block.width
    return (Part("conv", area * weights, weights + extra, area * block.width),)


def _pointwise(name: str, area: int, width_in: int, width: int, extra: int) -> Part:
    return Part(name, area * width_in * width, width_in * width + extra, area * width)


def _mbconv(block: MBConv) -> tuple[Part, ...]:
    hidden, width = block.hidden, block.width
    area_in, area = block.side**2, (-(-block.side // block.stride)) ** 2
    found = []
    if hidden != block.width_in:
        found.append(_pointwise("expand", area_in, block.width_in, hidden, 2 * hidden))
    taps = block.kernel**2 * hidden
    found.append(Part("depthwise", area * taps, taps + 2 * hidden, area * hidden))
    if block.squeeze:
        weights = 2 * hidden * block.squeeze
        outputs = hidden + block.squeeze
        found.append(Part("squeeze", weights, weights + outputs, outputs))
    found.append(_pointwise("project", area, hidden, width, 2 * width))
    if block.width_in != width:
        found.append(_pointwise("shortcut", area, block.width_in, width, 0))
    return tuple(found)


def _tokens(block: Tokens) -> tuple[Part, ...]:
    count = block.side**2 + block.class_token
    params = block.width * (block.class_token + count * block.absolute)
    return (Part("tokens", 0, params, count * block.width),)


def _transformer(block: Transformer) -> tuple[Part, ...]:
    area, width, heads = block.side**2, block.width, block.heads
    tokens = area + block.class_token
    queries = heads * block.head_dim
    values = queries * block.v_scale
    wide = 2 * queries + values
    table = (2 * block.side - 1) ** 2 * heads if block.bias_table else 0
    taps = block.value_kernel**2 * values
    found = [
        Part("norm", 0, 4 * width, 2 * tokens * width),
        _pointwise("qkv", tokens, width, wide, wide * block.qkv_bias),
        Part("scores", tokens**2 * queries, table, tokens**2 * heads),
        Part("mix", tokens**2 * values, 0, tokens * values),
        _pointwise("output", tokens, values, width, width),
        _pointwise("mlp_up", tokens, width, block.hidden, block.hidden),
        _pointwise("mlp_down", tokens, block.hidden, width, width),
    ]
    if taps:
        found.insert(2, Part("value_conv", area * taps, taps, area * values))
    return tuple(found)


def _classifier(block: Classifier) -> tuple[Part, ...]:
    width, found = block.width, []
    area = block.side**2
    if block.norm:
        found.append(Part("norm", 0, 2 * width, width * (area + block.class_token)))
    if block.hidden:  # a linear layer with a bias, then a norm with scale and offset
        found.append(_pointwise("expand", area, width, block.hidden, 3 * block.hidden))
        width = block.hidden
    if block.features:
        found.append(_pointwise("features", 1, width, block.features, block.features))
        width = block.features
    found.append(_pointwise("classes", 1, width, block.classes, block.classes))
    return tuple(found)


_PARTS: dict[type, Callable[..., tuple[Part, ...]]] = {
    Conv: _conv,
    MBConv: _mbconv,
    Tokens: _tokens,
    Transformer: _transformer,
    Classifier: _classifier,
}


def rows(space: Space, arch: Arch) -> tuple[Row, ...]:
    """Every operator of a network, in order."""
    found, index, before = [], 0, ""
    for stage, block in arch_blocks(space, arch):
        index = index + 1 if stage == before else 0
        found += [Row(stage, index, part) for part in parts(block)]
        before = stage
    return tuple(found)


def count(space: Space, arch: Arch, skip: tuple[str, ...] = ()) -> Cost:
    """Costs of a network for one image.

    Args:
        skip: names of parts that are left out.
    """
    taken = [row.part for row in rows(space, arch) if row.part.name not in skip]
    return Cost(
        sum(part.macs for part in taken),
        sum(part.params for part in taken),
        sum(part.outputs for part in taken),
    )


def macs(block: Block) -> int:
    """MACs of a block for one image."""
    return sum(part.macs for part in parts(block))


def params(block: Block) -> int:
    """Trainable parameters of a block."""
    return sum(part.params for part in parts(block))


def outputs(block: Block) -> int:
    """Elements that a block's operators write for one image."""
    return sum(part.outputs for part in parts(block))
