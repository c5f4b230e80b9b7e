"""From a space to the supernet that holds all of its networks. Imports no JAX."""

from loomax.models.elastic.config import (
    MOST_LANES,
    ConvStageConfig,
    StageConfig,
    SupernetConfig,
    TransformerStageConfig,
)
from loomax.nas.space.arch import Arch, uniform_stage
from loomax.nas.space.draw import largest, smallest
from loomax.nas.space.encode import encode
from loomax.nas.space.space import Space
from loomax.nas.space.stages import ConvStage, TransformerStage


def median(space: Space) -> Arch:
    """Every choice at the middle of those that may follow, the lower one of two."""
    stages, width = [], 0
    for index, stage in enumerate(space.stages):
        width = _middle(space.widths_after(index, width))
        values = {field: _middle(getattr(stage, field)) for field in stage.layer_fields}
        stages.append(uniform_stage(stage, width, _middle(stage.depth), **values))
    return Arch(_middle(space.resolutions), tuple(stages))


def _middle(choices: tuple) -> float:
    return choices[(len(choices) - 1) // 2]


def supernet_config(space: Space, lanes: tuple[Arch, ...] = ()) -> SupernetConfig:
    """The supernet of a space.

    Args:
        lanes: networks that grow, the last one the largest; () takes smallest, median, largest.

    Raises:
        ValueError: the space has something that supernets lack (the stage and the fix are named),
            or lanes do not grow.
    """
    archs = lanes or tuple(dict.fromkeys((smallest(space), median(space), largest(space))))
    if archs[-1] != largest(space):
        raise ValueError("the last lane is not the largest network: end with largest(space)")
    if len(archs) > MOST_LANES:
        raise ValueError(f"{len(archs)} lanes: give at most {MOST_LANES}")
    if space.head.norm:
        raise ValueError("the head has a norm before it, which supernets lack: give norm=False")
    first = space.stages[0]
    if not isinstance(first, ConvStage):
        raise ValueError(f"stage {first.name!r} comes first: give a ConvStage, as supernets need")
    return SupernetConfig(
        stages=tuple(_stage(stage) for stage in space.stages),
        lanes=tuple(encode(space, arch) for arch in archs),
        classes=space.head.classes,
        expand=space.head.expand,
        features=space.head.features,
        channels=space.channels,
    )


def _stage(stage: ConvStage | TransformerStage) -> StageConfig:
    opening = stage.opening
    if isinstance(stage, ConvStage):
        _need(stage, opening is None or opening.kind == "conv", "opens with a convolution or none")
        _need(stage, 1 not in stage.expand or stage.expand == (1,), "has expand 1 alone, or above")
        # With a stride the middle of a larger kernel sits one pixel further than a kernel of 1.
        strided = stage.stride > 1 and opening is None
        alone = 1 not in stage.kernel or len(stage.kernel) == 1
        _need(stage, alone or not strided, "has kernel 1 alone, or from 3 on")
        return ConvStageConfig(
            stride=stage.stride,
            squeeze=stage.squeeze,
            expand=stage.expand != (1,),
            opening=opening.kernel if opening else 0,
        )
    _need(stage, opening.kind == "mbconv", "opens with an mbconv")
    _need(stage, stage.position in ("bias", "none"), "has position 'bias' or 'none'")
    _need(stage, not stage.qkv_bias, "has qkv_bias=False")
    _need(stage, not stage.class_token, "has class_token=False")
    return TransformerStageConfig(
        head_dim=stage.head_dim,
        value_kernel=stage.value_kernel,
        bias=stage.position == "bias",
        stride=stage.stride,
        kernel=opening.kernel,
        expand=opening.expand,
        squeeze=opening.squeeze,
    )


def _need(stage: ConvStage | TransformerStage, holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"stage {stage.name!r} does not fit a supernet: give one that {what}")
