"""The space of the cost rows: ElasticViT's kinds of stages at 64 pixels, for a CPU core."""

from loomax.nas.space.space import Head, Space
from loomax.nas.space.stages import ConvStage, Opening, TransformerStage

SIDE, BATCH, CLASSES = 64, 32, 100


def cost_space() -> Space:
    """6 M to 150 M MACs an image."""

    convs = {"kernel": (3, 5), "expand": (3, 4, 5), "stride": 2}
    return Space(
        stages=(
            ConvStage("stem", (16, 24), (1,), (3,), (1,), stride=2, opening=Opening("conv", 3)),
            ConvStage("C1", (24, 32, 48), (1, 2, 3), squeeze=4, **convs),
            TransformerStage(
                "T1",
                width=(48, 96, 160),
                depth=(1, 2, 3),
                opening=Opening("mbconv", kernel=3, expand=4, squeeze=4),
                expand=(2, 3, 4),
                head_dim=16,
                v_scale=(2, 3),
                value_kernel=3,
                stride=2,
                position="bias",
            ),
        ),
        resolutions=(SIDE,),
        head=Head(CLASSES, expand=4),
    )
