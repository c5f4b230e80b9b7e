"""Tiny spaces whose architectures can be written out, by other code than the library's."""

from itertools import product

import pytest

from loomax.nas.space.arch import Arch, StageArch
from loomax.nas.space.space import Head, Space
from loomax.nas.space.stages import ConvStage, Opening, TransformerStage


def conv_space(layerwise: bool = False) -> Space:
    """The width of one stage enters the price of the next; 48 pixels are halved to an odd 3."""
    return Space(
        (
            ConvStage("stem", (4, 8), (1,), (3,), (1,), 2, opening=Opening("conv", 3)),
            ConvStage("C1", (4, 8, 12), (1, 2), (3, 5), (2, 3), 2, layerwise=layerwise),
            ConvStage("C2", (8, 12), (2,), expand=(2,), stride=2, squeeze=4),
        ),
        (20, 48),
        Head(5),
    )


def hybrid_space() -> Space:
    """A convolution stage, then two transformer stages with conv-augmented attention."""
    opening = Opening("mbconv", 3, expand=2, squeeze=4)
    attention = {"v_scale": (1, 2), "value_kernel": 3, "position": "bias", "stride": 2}
    return Space(
        (
            ConvStage("stem", (4, 8), (1,), (3, 5), (1,), 2, opening=Opening("conv", 3)),
            TransformerStage("T1", (8, 12), (1, 2), opening, (1, 2), head_dim=4, **attention),
            TransformerStage("T2", (8, 16), (1,), opening, (2,), head_dim=4, **attention),
        ),
        (16, 24),
        Head(5, expand=3, features=7),
    )


def vit_space() -> Space:
    """Plain layers, chosen one by one, behind patches, with a class token."""
    layers = TransformerStage(
        "layers",
        (8, 16),
        (1, 2, 3),
        Opening("patch", 4),
        (1.5, 2),
        (1, 2),
        head_dim=4,
        stride=4,
        position="absolute",
        qkv_bias=True,
        class_token=True,
        layerwise=True,
    )
    return Space((layers,), (8, 16), Head(5, norm=True))


SPACES = {
    "conv": conv_space(),
    "layerwise": conv_space(layerwise=True),
    "hybrid": hybrid_space(),
    "vit": vit_space(),
}


def stage_archs(stage) -> list[StageArch]:
    """Everything that one stage may choose, were it alone."""
    names = ["kernel", "expand"]
    if isinstance(stage, TransformerStage):
        names = ["expand", *(["heads"] if stage.heads else []), "v_scale"]
    layers = list(product(*(getattr(stage, name) for name in names)))
    found = []
    for width, depth in product(stage.width, stage.depth):
        rows = product(layers, repeat=depth) if stage.layerwise else [[x] * depth for x in layers]
        for row in rows:
            fields = {
                name: tuple(values)
                for name, values in zip(names, zip(*row, strict=True), strict=True)
            }
            found.append(StageArch(width, depth, **fields))
    return found


def written_out(space: Space) -> list[Arch]:
    """Every architecture of a space."""
    found = []
    for resolution in space.resolutions:
        for stages in product(*(stage_archs(stage) for stage in space.stages)):
            widths = [stage.width for stage in stages]
            if not space.growing or widths == sorted(widths):
                found.append(Arch(resolution, stages))
    return found


@pytest.fixture(params=sorted(SPACES))
def space(request) -> Space:
    return SPACES[request.param]


@pytest.fixture
def spaces() -> dict[str, Space]:
    return SPACES


@pytest.fixture
def every_arch():
    return written_out
