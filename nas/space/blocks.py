"""An architecture as a row of fixed blocks: what is counted, timed, and built. Imports no JAX.

A block knows all its sizes and nothing of the space, so it is also the key of a cost table.
"""

from dataclasses import asdict, dataclass

from loomax.nas.space.arch import Arch, StageArch
from loomax.nas.space.space import Space
from loomax.nas.space.stages import ConvStage, Stage


@dataclass(frozen=True)
class Conv:
    """A convolution on `side` x `side` pixels; with a norm (scale and offset), or with a bias."""

    side: int
    width_in: int
    width: int
    kernel: int
    stride: int
    norm: bool = True


@dataclass(frozen=True)
class MBConv:
    """Expand (if hidden differs from width_in), depthwise, squeeze-and-excite, project.

    squeeze is the hidden width of squeeze-and-excite, 0 without. The skip path exists, with a
    1x1 convolution if the widths differ.
    """

    side: int
    width_in: int
    width: int
    hidden: int
    kernel: int
    stride: int = 1
    squeeze: int = 0


@dataclass(frozen=True)
class Tokens:
    """What a transformer adds to its tokens once: absolute positions, a class token."""

    side: int
    width: int
    absolute: bool
    class_token: bool


@dataclass(frozen=True)
class Transformer:
    """A pre-norm layer: attention with `heads` heads, and an MLP of `hidden` units."""

    side: int
    width: int
    hidden: int
    heads: int
    head_dim: int
    v_scale: int = 1
    value_kernel: int = 0
    bias_table: bool = False
    qkv_bias: bool = False
    class_token: bool = False


@dataclass(frozen=True)
class Classifier:
    """Norm, 1x1 convolution to `hidden`, mean over pixels, a layer of `features`, classes.

    hidden and features are 0 without; with a class token only that token is read.
    """

    side: int
    width: int
    hidden: int
    features: int
    classes: int
    norm: bool = False
    class_token: bool = False


Block = Conv | MBConv | Tokens | Transformer | Classifier
_KINDS = {kind.__name__: kind for kind in (Conv, MBConv, Tokens, Transformer, Classifier)}


def block_fields(block: Block) -> dict:
    """The block for JSON: its kind and sizes, as a cost table in a file keeps them."""
    return {"kind": type(block).__name__} | asdict(block)


def block_from(fields: dict) -> Block:
    """The block that `block_fields` wrote.

    Raises:
        ValueError: another kind, or other sizes.
    """
    sizes = dict(fields)
    kind = sizes.pop("kind", None)
    try:
        return _KINDS[kind](**sizes)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a block: {fields}: give what block_fields wrote") from error


def mbconv(
    side: int, width_in: int, width: int, expand: float, kernel: int, stride: int, squeeze: int
) -> MBConv:
    """A block with its hidden widths: expand x width_in, and 1/squeeze of that."""
    hidden = int(expand * width_in)
    excite = hidden // squeeze if squeeze else 0
    return MBConv(side, width_in, width, hidden, kernel, stride, excite)


def opening_blocks(stage: Stage, side: int, width_in: int, width: int) -> tuple[Block, ...]:
    """The blocks of a stage before its layers; () for a stage without an opening."""
    opening = stage.opening
    if opening is None:
        return ()
    if opening.kind == "mbconv":
        first = mbconv(
            side, width_in, width, opening.expand, opening.kernel, stage.stride, opening.squeeze
        )
    else:
        norm = opening.kind == "conv"
        first = Conv(side, width_in, width, opening.kernel, stage.stride, norm)
    if isinstance(stage, ConvStage) or not (stage.position == "absolute" or stage.class_token):
        return (first,)
    after = -(-side // stage.stride)
    return (first, Tokens(after, width, stage.position == "absolute", stage.class_token))


def layer_block(
    stage: Stage, side: int, width_in: int, width: int, values: dict[str, float], first: bool
) -> Block:
    """One layer of a stage.

    Args:
        side: of the stage's input if `first` and there is no opening, else of its output, pixels.
        values: the layer's fields.
        first: whether it is the stage's first layer.
    """
    if isinstance(stage, ConvStage):
        stride = stage.stride if first and stage.opening is None else 1
        return mbconv(
            side, width_in, width, values["expand"], values["kernel"], stride, stage.squeeze
        )
    return Transformer(
        side,
        width,
        hidden=int(values["expand"] * width),
        heads=values.get("heads", width // stage.head_dim),
        head_dim=stage.head_dim,
        v_scale=values["v_scale"],
        value_kernel=stage.value_kernel,
        bias_table=stage.position == "bias",
        qkv_bias=stage.qkv_bias,
        class_token=stage.class_token,
    )


def classifier_block(space: Space, side: int, width: int) -> Classifier:
    """The block behind the last stage, whose output is `side` pixels wide."""
    head, last = space.head, space.stages[-1]
    token = not isinstance(last, ConvStage) and last.class_token
    return Classifier(
        side, width, head.expand * width, head.features, head.classes, head.norm, token
    )


def stage_blocks(stage: Stage, side: int, width_in: int, chosen: StageArch) -> tuple[Block, ...]:
    """All blocks of a stage whose input is `side` pixels wide and has `width_in` channels."""
    blocks = list(opening_blocks(stage, side, width_in, chosen.width))
    if blocks:
        side, width_in = -(-side // stage.stride), chosen.width
    for index in range(chosen.depth):
        values = {field: getattr(chosen, field)[index] for field in stage.layer_fields}
        blocks.append(layer_block(stage, side, width_in, chosen.width, values, index == 0))
        if index == 0 and stage.opening is None:
            side = -(-side // stage.stride)
        width_in = chosen.width
    return tuple(blocks)


def arch_blocks(space: Space, arch: Arch) -> tuple[tuple[str, Block], ...]:
    """(name of the stage, or "head"; block) of a whole network, in order.

    The architecture is not validated: sampling compares some that mix two.
    """
    named, side, width = [], arch.resolution, space.channels
    for stage, chosen in zip(space.stages, arch.stages, strict=True):
        named += [(stage.name, block) for block in stage_blocks(stage, side, width, chosen)]
        side, width = -(-side // stage.stride), chosen.width
    return (*named, ("head", classifier_block(space, side, width)))
