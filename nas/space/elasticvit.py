"""The ElasticViT space and the networks that were published from it. Imports no JAX.

Sources: arXiv 2303.09730 (ICCV 2023); the choices and the networks are those of the public
configuration files (github.com/microsoft/Moonlit, ElasticViT/configs, 348a402).
"""

from types import MappingProxyType

from loomax.nas.space.arch import Arch, uniform_stage
from loomax.nas.space.space import Head, Space
from loomax.nas.space.stages import ConvStage, Opening, TransformerStage


def _transformer(
    name: str, widths: tuple[int, int], depth: int, stride: int, head_dim: int = 16
) -> TransformerStage:
    return TransformerStage(
        name,
        width=tuple(range(widths[0], widths[1] + 1, head_dim)),
        depth=tuple(range(1, depth + 1)),
        opening=Opening("mbconv", kernel=3, expand=6, squeeze=4),
        expand=(2, 3, 4, 5),
        head_dim=head_dim,
        v_scale=(2, 3, 4),
        value_kernel=3,
        stride=stride,
        position="bias",
    )


def elasticvit_space(classes: int = 1000) -> Space:
    """About 5.5e16 architectures before widths must grow, of 37 M to 3.2 G MACs."""
    stem = ConvStage(
        "stem", (16, 24), (1, 2), (3, 5), (1,), stride=2, opening=Opening("conv", kernel=3)
    )
    convs = {"kernel": (3, 5), "expand": (3, 4, 5, 6), "stride": 2}
    return Space(
        stages=(
            stem,
            ConvStage("C1", (16, 24, 32), (2, 3, 4, 5), **convs),
            ConvStage("C2", (16, 24, 32, 40, 48), (2, 3, 4, 5, 6), squeeze=4, **convs),
            _transformer("T1", (48, 96), 5, stride=2),
            _transformer("T2", (80, 160), 6, stride=1),
            _transformer("T3", (144, 288), 6, stride=2),
            _transformer("T4", (160, 320), 6, stride=2),
        ),
        resolutions=(128, 160, 176, 192, 224, 256),
        head=Head(classes, expand=6, features=1984),
    )


# Name; resolution; widths, depths of stem, C1, C2, T1 to T4; kernels of stem, C1, C2; expand of
# C1, C2; expand of T1 to T4; v_scale of T4 (2 in T1 to T3).
_PUBLISHED = """
T1    128   16 24 32 64  96 176 272   1 2 3 1 1 1 1   3 3 3   3 3   2 2 3 4   2
T2    160   16 24 40 48  96 176 256   1 2 3 1 1 2 2   3 3 3   3 3   3 4 3 2   2
S1    192   16 24 40 64  96 192 272   1 3 3 2 2 2 2   3 3 3   3 3   2 2 3 4   2
S2    224   16 24 48 64  96 192 256   1 3 3 2 2 2 2   3 3 3   3 3   2 2 2 4   2
M     224   16 32 48 64  96 192 288   1 3 5 2 2 2 2   5 3 3   3 3   2 4 4 5   2
L1    256   16 24 40 64  96 192 320   1 3 3 2 2 2 2   5 5 5   3 6   4 3 4 4   2
L1.5  256   16 24 48 64  96 256 320   2 4 4 2 2 2 2   3 3 5   3 4   4 5 3 5   2
L2    256   16 24 40 80 128 256 304   1 3 4 2 2 2 2   3 3 3   6 6   3 2 3 5   3
L3    256   16 32 48 80 128 256 320   1 3 4 2 2 2 2   5 3 5   5 5   4 4 3 5   2
200M  128   16 16 16 48  80 144 160   1 2 2 1 1 1 1   3 3 3   3 3   2 2 2 2   2
400M  176   16 24 32 48  96 176 224   1 3 3 2 2 2 2   3 3 3   3 3   2 3 2 2   2
800M  224   16 24 32 64  96 192 256   1 3 3 2 2 2 2   3 3 3   3 3   2 2 2 2   2
"""


def _network(numbers: list[int]) -> Arch:
    resolution, widths, depths = numbers[0], numbers[1:8], numbers[8:15]
    kernels, expands = numbers[15:18], (1, *numbers[18:24])
    values = [{"kernel": kernel} for kernel in kernels]
    values += [{"v_scale": scale} for scale in (2, 2, 2, numbers[24])]
    stages = zip(elasticvit_space().stages, widths, depths, values, expands, strict=True)
    return Arch(
        resolution,
        tuple(uniform_stage(*row[:3], **row[3], expand=row[4]) for row in stages),
    )


_NETWORKS = {
    name: _network([int(number) for number in rest])
    for name, *rest in (line.split() for line in _PUBLISHED.strip().splitlines())
}

# The nine networks by name, from 62 M (T1) to 812 M MACs (L3).
PUBLISHED = MappingProxyType({k: v for k, v in _NETWORKS.items() if not k.endswith("00M")})

# (largest bank in MACs, smallest network of the banks up to it) for complexity-aware sampling;
# the last one serves larger banks too.
SMALLEST = tuple((bank * 1e6, _NETWORKS[f"{bank}M"]) for bank in (200, 400, 800))
