"""Small spaces for handwritten digits of 8 x 8 pixels and shapes of 16 x 16. Imports no JAX."""

from dataclasses import replace

from loomax.nas.space.space import Head, Space
from loomax.nas.space.stages import ConvStage, Opening, TransformerStage


def digits_space(classes: int = 10) -> Space:
    """Convolutions at 8 x 8 and 4 x 4 pixels, then attention over 16 tokens."""
    return Space(
        stages=(
            ConvStage("stem", (4, 8), (1,), (3,), (1,), opening=Opening("conv", kernel=3)),
            ConvStage("C1", (8, 12, 16), (1, 2, 3), (3, 5), (2, 3, 4), stride=2, squeeze=4),
            TransformerStage(
                "T1",
                width=(8, 16, 24, 32),
                depth=(1, 2, 3),
                opening=Opening("mbconv", kernel=3, expand=2, squeeze=4),
                expand=(1, 2, 3),
                head_dim=8,
                v_scale=(1, 2),
                value_kernel=3,
                position="bias",
            ),
        ),
        resolutions=(8,),
        head=Head(classes, expand=2),
        channels=1,
    )


def digits_debug_space(classes: int = 10) -> Space:
    """The same kinds of stages with next to no choices: compiles in seconds, learns little."""
    return Space(
        stages=(
            ConvStage("stem", (4,), (1,), (3,), (1,), 2, opening=Opening("conv", kernel=3)),
            TransformerStage(
                "T1",
                width=(4, 8),
                depth=(1, 2),
                opening=Opening("mbconv", kernel=3, expand=2),
                expand=(2,),
                head_dim=4,
                stride=2,
                position="bias",
            ),
        ),
        resolutions=(8,),
        head=Head(classes),
        channels=1,
    )


def shapes_space(classes: int = 8) -> Space:
    """The digits space behind a stem that halves colour images of 16 x 16 pixels."""
    return _for_shapes(digits_space(classes))


def shapes_debug_space(classes: int = 8) -> Space:
    """As `digits_debug_space`, for colour images of 16 x 16 pixels."""
    return _for_shapes(digits_debug_space(classes))


def _for_shapes(space: Space) -> Space:
    stem, *rest = space.stages
    halving = replace(stem, stride=2 * stem.stride)
    return replace(space, stages=(halving, *rest), resolutions=(16,), channels=3)
