"""An architecture as the sizes that a compiled supernet takes, and back. Imports no JAX.

The sizes are a pytree of int32 arrays whose shapes depend on the space only, so one compiled
program serves every architecture.
"""

from typing import NamedTuple

import numpy as np

from loomax.nas.space.arch import Arch, StageArch, validate
from loomax.nas.space.space import Space
from loomax.nas.space.stages import ConvStage, Stage


class StageSizes(NamedTuple):
    """Active sizes of a stage. Layers beyond the depth hold 0, as do fields of other stages.

    Args:
        width: int32 [], channels.
        depth: int32 [], layers.
        kernel: int32 [layers], side of the depthwise kernel (conv).
        hidden: int32 [layers], hidden width of the MBConv or MLP.
        heads: int32 [layers] (transformer).
        values: int32 [layers], width of all heads' values together (transformer).
    """

    width: np.ndarray
    depth: np.ndarray
    kernel: np.ndarray
    hidden: np.ndarray
    heads: np.ndarray
    values: np.ndarray


class Sizes(NamedTuple):
    """Active sizes of a network: the input's side, int32 [], and its stages."""

    resolution: np.ndarray
    stages: tuple[StageSizes, ...]


def encode(space: Space, arch: Arch) -> Sizes:
    """The sizes of an architecture.

    Raises:
        ValueError: `arch` is not of the space.
    """
    validate(space, arch)
    found, width = [], space.channels
    for stage, chosen in zip(space.stages, arch.stages, strict=True):
        found.append(_stage_sizes(stage, width, chosen))
        width = chosen.width
    return Sizes(np.asarray(arch.resolution, np.int32), tuple(found))


def decode(space: Space, sizes: Sizes) -> Arch:
    """The architecture whose sizes these are.

    Raises:
        ValueError: no architecture of the space has them.
    """
    if len(sizes.stages) != len(space.stages):
        raise ValueError(f"sizes have {len(sizes.stages)} stages; allowed: {len(space.stages)}")
    found, width = [], space.channels
    for stage, given in zip(space.stages, sizes.stages, strict=True):
        found.append(_stage_arch(stage, width, given))
        width = found[-1].width
    arch = Arch(int(sizes.resolution), tuple(found))
    again = encode(space, arch)
    for stage, given, expected in zip(space.stages, sizes.stages, again.stages, strict=True):
        for field, value in given._asdict().items():
            if not np.array_equal(value, getattr(expected, field)):
                raise ValueError(
                    f"stage {stage.name!r}: {field} is {np.asarray(value).tolist()}; allowed: what"
                    f" encode gives, such as {getattr(expected, field).tolist()}"
                )
    return arch


def _inputs(stage: Stage, width_in: int, chosen_width: int, depth: int) -> np.ndarray:
    """Input width of each layer, from which hidden widths are taken: int64 [depth]."""
    inputs = np.full(depth, chosen_width)
    if isinstance(stage, ConvStage) and stage.opening is None:
        inputs[0] = width_in
    return inputs


def _stage_sizes(stage: Stage, width_in: int, chosen: StageArch) -> StageSizes:
    def padded(values) -> np.ndarray:
        array = np.zeros(stage.depth[-1], np.int32)
        array[: chosen.depth] = np.asarray(values, np.float64).astype(np.int32)
        return array

    inputs = _inputs(stage, width_in, chosen.width, chosen.depth)
    kernel = heads = values = np.zeros(chosen.depth)
    if isinstance(stage, ConvStage):
        kernel = chosen.kernel
    else:
        derived = (chosen.width // stage.head_dim,) * chosen.depth
        heads = np.asarray(chosen.heads or derived)
        values = heads * stage.head_dim * np.asarray(chosen.v_scale)
    return StageSizes(
        np.asarray(chosen.width, np.int32),
        np.asarray(chosen.depth, np.int32),
        padded(kernel),
        padded(np.asarray(chosen.expand) * inputs),
        padded(heads),
        padded(values),
    )


def _stage_arch(stage: Stage, width_in: int, given: StageSizes) -> StageArch:
    width, depth = int(given.width), min(int(given.depth), stage.depth[-1])
    inputs = _inputs(stage, width_in, width, depth) if depth > 0 else np.zeros(0)
    hidden = np.asarray(given.hidden)[:depth]
    expand = tuple(
        min(stage.expand, key=lambda choice: abs(int(choice * size) - found))
        for size, found in zip(inputs.tolist(), hidden.tolist(), strict=True)
    )
    if isinstance(stage, ConvStage):
        kernel = tuple(np.asarray(given.kernel)[:depth].tolist())
        return StageArch(width, depth, kernel=kernel, expand=expand)
    heads = np.asarray(given.heads)[:depth]
    v_scale = np.asarray(given.values)[:depth] // np.maximum(heads * stage.head_dim, 1)
    chosen = tuple(heads.tolist()) if stage.heads else ()
    return StageArch(width, depth, expand=expand, heads=chosen, v_scale=tuple(v_scale.tolist()))
