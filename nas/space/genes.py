"""An architecture as one flat row of choice numbers: for banks, archives, distances. No JAX."""

import numpy as np

from loomax.nas.space.arch import Arch, StageArch, validate
from loomax.nas.space.space import Space

UNUSED = -1


def gene_choices(space: Space) -> tuple[tuple[float, ...], ...]:
    """The choices of every gene: the resolution; then for each stage width, depth, and each
    layer field (once, or for every possible layer of a layerwise stage)."""
    genes: list[tuple[float, ...]] = [space.resolutions]
    for stage in space.stages:
        genes += [stage.width, stage.depth]
        repeats = stage.depth[-1] if stage.layerwise else 1
        genes += [getattr(stage, field) for field in stage.layer_fields for _ in range(repeats)]
    return tuple(genes)


def to_genes(space: Space, arch: Arch) -> np.ndarray:
    """Numbers of the choices, int32 [genes]; -1 for layers beyond the depth.

    Raises:
        ValueError: `arch` is not of the space.
    """
    validate(space, arch)
    genes = [space.resolutions.index(arch.resolution)]
    for stage, chosen in zip(space.stages, arch.stages, strict=True):
        genes += [stage.width.index(chosen.width), stage.depth.index(chosen.depth)]
        for field in stage.layer_fields:
            values = getattr(chosen, field) if stage.layerwise else getattr(chosen, field)[:1]
            genes += [getattr(stage, field).index(value) for value in values]
            genes += [UNUSED] * (stage.depth[-1] - len(values) if stage.layerwise else 0)
    return np.asarray(genes, np.int32)


def from_genes(space: Space, genes: np.ndarray) -> Arch:
    """The architecture of a row of choice numbers.

    Raises:
        ValueError: wrong length, or the architecture is not of the space.
    """
    numbers = np.asarray(genes).tolist()
    choices = gene_choices(space)
    if len(numbers) != len(choices):
        raise ValueError(f"{len(numbers)} genes; allowed: {len(choices)}, those of the space")
    for place, (number, allowed) in enumerate(zip(numbers, choices, strict=True)):
        if not UNUSED <= number < len(allowed):
            raise ValueError(f"gene {place} is {number}; allowed: -1 to {len(allowed) - 1}")
    values = iter([allowed[number] for number, allowed in zip(numbers, choices, strict=True)])
    resolution, stages = next(values), []
    for stage in space.stages:
        width, depth = int(next(values)), int(next(values))
        layers = {}
        for field in stage.layer_fields:
            if stage.layerwise:
                layers[field] = tuple([next(values) for _ in range(stage.depth[-1])][:depth])
            else:
                layers[field] = (next(values),) * depth
        stages.append(StageArch(width, depth, **layers))
    arch = Arch(int(resolution), tuple(stages))
    validate(space, arch)
    return arch
