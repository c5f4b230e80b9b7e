"""Uniform sampling and the sandwich rule, by (seed, step). Imports no JAX."""

from loomax.nas.space.arch import Arch
from loomax.nas.space.draw import generator, largest, random_arch, smallest
from loomax.nas.space.space import Space


def uniform(space: Space, *, seed: int, step: int, nets: int) -> tuple[Arch, ...]:
    """`nets` architectures whose choices are uniform, one after the other."""
    return tuple(random_arch(space, generator(seed, step, net)) for net in range(nets))


def sandwich(space: Space, *, seed: int, step: int, nets: int) -> tuple[Arch, ...]:
    """The largest, the smallest, and nets - 2 uniform ones (Yu and Huang, arXiv 1903.05134).

    Raises:
        ValueError: `nets` is below 2.
    """
    if nets < 2:
        raise ValueError(f"nets is {nets}: a sandwich needs 2 or more")
    return (largest(space), smallest(space), *uniform(space, seed=seed, step=step, nets=nets - 2))
