"""Largest, smallest and random architectures, mutation, crossover. Imports no JAX.

All are pure functions of the space and a NumPy generator, which they advance.
"""

from collections.abc import Callable, Sequence

import numpy as np

from loomax.nas.space.arch import Arch, StageArch, uniform_stage
from loomax.nas.space.space import Space
from loomax.nas.space.stages import Stage


def generator(seed: int, *path: int) -> np.random.Generator:
    """A generator that depends on the seed and the path, such as (step, net), only."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


def largest(space: Space) -> Arch:
    """Every choice at its largest value."""
    return _extreme(space, -1)


def smallest(space: Space) -> Arch:
    """Every choice at its smallest value, widths no narrower than those before."""
    return _extreme(space, 0)


def _extreme(space: Space, place: int) -> Arch:
    stages, width = [], 0
    for index, stage in enumerate(space.stages):
        width = space.widths_after(index, width)[place]
        values = {field: getattr(stage, field)[place] for field in stage.layer_fields}
        stages.append(uniform_stage(stage, width, stage.depth[place], **values))
    return Arch(space.resolutions[place], tuple(stages))


def random_arch(space: Space, rng: np.random.Generator) -> Arch:
    """Each choice uniform, one after the other; a width among those that may follow.

    Architectures are not equally likely where widths must grow: `loomax.nas.sample.window` draws
    those uniformly.
    """
    resolution, stages, width = pick(rng, space.resolutions), [], 0
    for index, stage in enumerate(space.stages):
        width = pick(rng, space.widths_after(index, width))
        stages.append(_random_layers(stage, width, pick(rng, stage.depth), rng))
    return Arch(resolution, tuple(stages))


def pick(rng: np.random.Generator, choices: Sequence):
    """One of the choices, uniform."""
    return choices[int(rng.integers(len(choices)))]


def _random_layers(stage: Stage, width: int, depth: int, rng: np.random.Generator) -> StageArch:
    layers = {}
    for field in stage.layer_fields:
        choices = getattr(stage, field)
        if stage.layerwise:
            layers[field] = tuple(pick(rng, choices) for _ in range(depth))
        else:
            layers[field] = (pick(rng, choices),) * depth
    return StageArch(width, depth, **layers)


def mutate(space: Space, arch: Arch, rng: np.random.Generator, rate: float = 0.2) -> Arch:
    """Redraws every choice with probability `rate`.

    A stage that gets deeper repeats its last layer. A width that has become too narrow is redrawn
    among those that may follow.

    Args:
        rate: in [0, 1].

    Raises:
        ValueError: `rate` is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}: give a probability in [0, 1]")

    def redraw(value, choices: Sequence):
        return pick(rng, choices) if rng.random() < rate else value

    return _rebuild(space, redraw(arch.resolution, space.resolutions), arch.stages, redraw, rng)


def crossover(space: Space, one: Arch, other: Arch, rng: np.random.Generator) -> Arch:
    """Resolution and every stage from one parent or the other, each with probability 1/2.

    A width that would be too narrow is redrawn among those that may follow.
    """
    resolution = pick(rng, (one.resolution, other.resolution))
    stages = tuple(pick(rng, pair) for pair in zip(one.stages, other.stages, strict=True))
    return _rebuild(space, resolution, stages, lambda value, choices: value, rng)


def _rebuild(
    space: Space,
    resolution: int,
    chosen: Sequence[StageArch],
    redraw: Callable,
    rng: np.random.Generator,
) -> Arch:
    stages, width = [], 0
    for index, (stage, old) in enumerate(zip(space.stages, chosen, strict=True)):
        allowed = space.widths_after(index, width)
        width = redraw(old.width, allowed)
        if width not in allowed:
            width = pick(rng, allowed)
        depth = redraw(old.depth, stage.depth)
        layers = {}
        for field in stage.layer_fields:
            values, choices = getattr(old, field), getattr(stage, field)
            if stage.layerwise:
                values = (values + values[-1:] * depth)[:depth]
                layers[field] = tuple(redraw(value, choices) for value in values)
            else:
                layers[field] = (redraw(values[0], choices),) * depth
        stages.append(StageArch(width, depth, **layers))
    return Arch(resolution, tuple(stages))
