"""Plain vision transformers: AutoFormer's spaces and any single ViT. Imports no JAX."""

from loomax.nas.space.space import Head, Space
from loomax.nas.space.stages import Opening, TransformerStage

# Size -> embedding widths, heads, depths, MLP ratios (arXiv 2107.00651, public code of AutoFormer).
_AUTOFORMER = {
    "tiny": ((192, 216, 240), (3, 4), (12, 13, 14), (3.5, 4)),
    "small": ((320, 384, 448), (5, 6, 7), (12, 13, 14), (3, 3.5, 4)),
    "base": ((528, 576, 624), (9, 10), (14, 15, 16), (3, 3.5, 4)),
}


def autoformer_space(size: str, classes: int = 1000) -> Space:
    """Layerwise heads and MLPs, one width for all layers, as in AutoFormer.

    Positions are absolute here; AutoFormer adds relative ones to keys and values.

    Args:
        size: "tiny", "small" or "base".

    Raises:
        ValueError: another size.
    """
    if size not in _AUTOFORMER:
        raise ValueError(f"size is {size!r}; allowed: {', '.join(_AUTOFORMER)}")
    widths, heads, depths, expands = _AUTOFORMER[size]
    return vit_space(widths, depths, expands, heads, classes=classes, layerwise=True)


def vit_space(
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    expands: tuple[float, ...] = (4,),
    heads: tuple[int, ...] = (),
    *,
    patch: int = 16,
    resolutions: tuple[int, ...] = (224,),
    classes: int = 1000,
    layerwise: bool = False,
) -> Space:
    """Patches, a class token, absolute positions, transformer layers, a linear classifier.

    Args:
        widths, depths, expands, heads: choices; heads () takes width / 64.
        patch: side of a patch, pixels.
    """
    stage = TransformerStage(
        "layers",
        widths,
        depths,
        Opening("patch", kernel=patch),
        expands,
        heads,
        stride=patch,
        position="absolute",
        qkv_bias=True,
        class_token=True,
        layerwise=layerwise,
    )
    return Space((stage,), resolutions, Head(classes, norm=True))
