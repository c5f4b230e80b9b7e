"""Conflict-aware sampling: nets of like complexity, good ones more often. Imports no JAX.

Source: ElasticViT, arXiv 2303.09730 (complexity-aware and performance-aware sampling). A step is
a pure function of (seed, step, epoch, memory). Where the public code draws from lists of
architectures that were sampled beforehand, `window` draws all that fit with equal probability.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loomax.nas.sample.config import ConflictAwareConfig
from loomax.nas.sample.graph import Price, build_graph, checked
from loomax.nas.sample.memory import Memory, best, exploit
from loomax.nas.sample.preference import preference
from loomax.nas.sample.walk import bank_at
from loomax.nas.sample.window import WindowTable, draw, tabulate, ways_within
from loomax.nas.space.arch import Arch, at_least
from loomax.nas.space.blocks import Block
from loomax.nas.space.draw import generator, smallest
from loomax.nas.space.space import Space


@dataclass(frozen=True)
class Sampler:
    """What sampling needs beside the seed: made once by `make_sampler`, never changed.

    Args:
        space: from which nets are drawn.
        config: settings.
        price: complexity of a block.
        smallest: for each bank, its smallest net.
        tables: for each bank, the table of the choices that are not below its smallest net's.
    """

    space: Space
    config: ConflictAwareConfig
    price: Price
    smallest: tuple[Arch, ...]
    tables: tuple[WindowTable, ...]


@dataclass(frozen=True)
class Step:
    """The nets of one step.

    Args:
        bank: whose window the nets are from.
        nets: drawn from the window.
        explored: for each net, whether it is a new one that may be recorded in the memory.
        smallest: the bank's smallest net, to be distilled from the others.
    """

    bank: int
    nets: tuple[Arch, ...]
    explored: tuple[bool, ...]
    smallest: Arch


def make_sampler(
    space: Space,
    config: ConflictAwareConfig,
    price: Price | Mapping[Block, float],
    hierarchy: tuple[tuple[float, Arch], ...] = (),
    unit: float | None = None,
) -> Sampler:
    """Builds the tables of all banks.

    Args:
        price: complexity of a block, a function or a table. The preference also prices mixtures:
            a table needs `distinct_blocks(replace(space, growing=False))`.
        hierarchy: (largest bank, smallest net of the banks up to it), growing; the last one also
            serves larger banks. () takes the space's smallest.
        unit: of the tables; a two-hundredth of the window by default.

    Raises:
        ValueError: a bank's window holds no architecture, or an argument is wrong.
    """
    priced = checked(price)
    levels = hierarchy or ((config.banks[-1], smallest(space)),)
    floors = tuple(_floor(levels, bank) for bank in config.banks)
    limit = config.banks[-1] + config.window
    built = {
        floor: tabulate(
            build_graph(at_least(space, floor), priced), unit or config.window / 200, limit
        )
        for floor in dict.fromkeys(floors)
    }
    for bank, floor in zip(config.banks, floors, strict=True):
        if not ways_within(built[floor], bank, bank + config.window):
            raise ValueError(
                f"bank {bank}: no architecture costs between it and {bank + config.window}: leave"
                " it out of banks"
            )
    return Sampler(space, config, priced, floors, tuple(built[floor] for floor in floors))


def _floor(levels: tuple[tuple[float, Arch], ...], bank: float) -> Arch:
    return next((arch for limit, arch in levels if bank <= limit), levels[-1][1])


def sample_step(sampler: Sampler, memory: Memory, *, seed: int, step: int, epoch: int) -> Step:
    """The nets of a step (from 0) in an epoch (from 0)."""
    bank = bank_at(seed, step, len(sampler.config.banks))
    drawn = [
        _net(sampler, memory, bank, epoch, generator(seed, step, net))
        for net in range(sampler.config.nets)
    ]
    nets, explored = zip(*drawn, strict=True)
    return Step(bank, nets, explored, sampler.smallest[bank])


def _net(
    sampler: Sampler, memory: Memory, bank: int, epoch: int, rng: np.random.Generator
) -> tuple[Arch, bool]:
    config, space, low = sampler.config, sampler.space, sampler.config.banks[bank]
    half, count = config.bank_capacity(bank) // 2, int(memory.counts[bank])
    exploits = rng.random() < config.exploit_at(epoch)
    if config.performance_aware and exploits and count > half:
        return exploit(space, memory, bank, rng), False
    compares = config.performance_aware and count >= half
    candidates = [
        draw(sampler.tables[bank], low, low + config.window, rng)
        for _ in range(config.candidates if compares else 1)
    ]
    if not compares:
        return candidates[0], True
    anchor = (best(space, memory, 0) if bank else None) or smallest(space)
    scores = [preference(space, arch, anchor, sampler.price) for arch in candidates]
    return candidates[int(np.argmin(scores))], True
