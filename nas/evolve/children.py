"""New networks within the window, from a population or drawn. Imports no JAX."""

from collections.abc import Container, Sequence

import numpy as np

from loomax.nas.evolve.candidate import Candidate
from loomax.nas.evolve.config import EvolveConfig
from loomax.nas.evolve.constraint import Constraint
from loomax.nas.space.arch import Arch
from loomax.nas.space.draw import crossover, generator, mutate
from loomax.nas.space.genes import gene_choices

# (architecture, predicted seconds)
Priced = tuple[Arch, float]


def drawn(
    constraint: Constraint,
    seen: Container[Arch],
    count: int,
    tries: int,
    seed: int,
    generation: int,
) -> list[Priced]:
    """Up to `count` networks of the window that are not in `seen`, all equally likely."""
    found: dict[Arch, float] = {}
    for number in range(count):
        _draw(constraint, seen, found, tries, generator(seed, generation, number))
    return list(found.items())


def children(
    constraint: Constraint,
    population: Sequence[Candidate],
    seen: Container[Arch],
    count: int,
    config: EvolveConfig,
    generation: int,
) -> list[Priced]:
    """Up to `count` children of a population that are not in `seen`.

    A child that is outside the window is rejected and made again; after `config.tries` one is
    drawn instead.

    Args:
        population: the best first.
    """
    found: dict[Arch, float] = {}
    for number in range(count):
        rng = generator(config.seed, generation, number)
        for _ in range(config.tries):
            arch = _child(constraint, population, config, rng)
            if arch not in seen and arch not in found:
                seconds = constraint.latency(arch)
                if constraint.holds(seconds):
                    found[arch] = seconds
                    break
        else:
            _draw(constraint, seen, found, config.tries, rng)
    return list(found.items())


def _child(
    constraint: Constraint,
    population: Sequence[Candidate],
    config: EvolveConfig,
    rng: np.random.Generator,
) -> Arch:
    space = constraint.latency.space
    arch = _parent(population, rng)
    if rng.random() < config.crossover:
        arch = crossover(space, arch, _parent(population, rng), rng)
    rate = min(config.mutation / len(gene_choices(space)), 1.0)
    return mutate(space, arch, rng, rate)


def _parent(population: Sequence[Candidate], rng: np.random.Generator) -> Arch:
    """The better one of two: the population is in order."""
    return population[int(rng.integers(len(population), size=2).min())].arch


def _draw(
    constraint: Constraint,
    seen: Container[Arch],
    found: dict[Arch, float],
    tries: int,
    rng: np.random.Generator,
) -> None:
    for _ in range(tries):
        arch = constraint.draw(rng)
        if arch not in seen and arch not in found:
            found[arch] = constraint.latency(arch)
            return
