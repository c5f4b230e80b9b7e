"""Small spaces for scikit-learn's handwritten digits, 8 x 8 pixels. Imports no JAX."""

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
