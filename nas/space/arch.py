"""An architecture of a space: a plain value, with JSON in and out. Imports no JAX."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from loomax.nas.space.space import Space, restrict
from loomax.nas.space.stages import Stage

LAYER_FIELDS = ("kernel", "expand", "heads", "v_scale")


@dataclass(frozen=True)
class StageArch:
    """What one stage chose. Fields of layers hold one value per layer; () is no choice."""

    width: int
    depth: int
    kernel: tuple[int, ...] = ()
    expand: tuple[float, ...] = ()
    heads: tuple[int, ...] = ()
    v_scale: tuple[int, ...] = ()


@dataclass(frozen=True)
class Arch:
    """A subnet.

    Args:
        resolution: side of the input, pixels.
        stages: what each stage chose.
    """

    resolution: int
    stages: tuple[StageArch, ...]


def to_json(arch: Arch) -> str:
    """The architecture as one line of JSON."""
    return json.dumps(asdict(arch))


def from_json(text: str) -> Arch:
    """Reads what `to_json` wrote.

    Raises:
        ValueError: the text is not JSON, or has other fields.
    """
    try:
        read = json.loads(text)
        stages = [
            StageArch(**{k: tuple(v) if isinstance(v, list) else v for k, v in stage.items()})
            for stage in read["stages"]
        ]
        return Arch(int(read["resolution"]), tuple(stages))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"not an architecture: {text[:80]!r} ({error}): give what to_json wrote"
        ) from error


def uniform_stage(stage: Stage, width: int, depth: int, **values: float) -> StageArch:
    """A choice whose layers are all alike: one value for each field of a layer."""
    layers = {field: (values[field],) * depth for field in stage.layer_fields}
    return StageArch(width, depth, **layers)


def validate(space: Space, arch: Arch) -> None:
    """Checks that `arch` belongs to `space`.

    Raises:
        ValueError: names the stage, the field, the value and what is allowed.
    """
    _check("arch", "resolution", arch.resolution, space.resolutions)
    if len(arch.stages) != len(space.stages):
        raise ValueError(
            f"arch has {len(arch.stages)} stages; allowed: {len(space.stages)}, those of the space"
        )
    width = 0
    for index, (stage, chosen) in enumerate(zip(space.stages, arch.stages, strict=True)):
        where = f"stage {stage.name!r}"
        _check(where, "width", chosen.width, stage.width)
        _check(where, "width", chosen.width, space.widths_after(index, width), f" after {width}")
        _check(where, "depth", chosen.depth, stage.depth)
        _check_layers(stage, chosen)
        width = chosen.width


def _check_layers(stage: Stage, chosen: StageArch) -> None:
    where = f"stage {stage.name!r}"
    for field in LAYER_FIELDS:
        values = getattr(chosen, field)
        length = chosen.depth if field in stage.layer_fields else 0
        if len(values) != length:
            raise ValueError(f"{where}: {field} has {len(values)} values; allowed: {length}")
        for value in values:
            _check(where, field, value, getattr(stage, field))
        if not stage.layerwise and len(set(values)) > 1:
            raise ValueError(f"{where}: {field} is {values}; allowed: one value for all layers")


def _check(where: str, field: str, value: float, allowed: Sequence[float], note: str = "") -> None:
    if value not in allowed:
        raise ValueError(f"{where}: {field} is {value}{note}; allowed: {tuple(allowed)}")


def at_least(space: Space, arch: Arch) -> Space:
    """The part of the space in which no choice is below the least one of `arch`.

    Raises:
        ValueError: `arch` is not of the space.
    """
    validate(space, arch)
    choices = []
    for stage, chosen in zip(space.stages, arch.stages, strict=True):
        lower = {"width": chosen.width, "depth": chosen.depth}
        lower |= {field: min(getattr(chosen, field)) for field in stage.layer_fields}
        choices.append(
            {k: tuple(c for c in getattr(stage, k) if c >= least) for k, least in lower.items()}
        )
    sides = tuple(side for side in space.resolutions if side >= arch.resolution)
    return restrict(space, sides, tuple(choices))
