"""Memory of good architectures per complexity bank: arrays in the train state. Imports no JAX.

Source: performance-aware sampling, arXiv 2303.09730, with the constants of the public code.
"""

from typing import NamedTuple

import numpy as np

from loomax.nas.sample.config import ConflictAwareConfig
from loomax.nas.space.arch import Arch
from loomax.nas.space.genes import UNUSED, from_genes, gene_choices, to_genes
from loomax.nas.space.space import Space


class Memory(NamedTuple):
    """A pytree; its shapes never change. Places beyond a bank's count are empty.

    Args:
        genes: int32 [banks, capacity, genes], the architectures.
        scores: float32 [banks, capacity], larger is better: minus the cross-entropy.
        counts: int32 [banks], entries that are taken.
    """

    genes: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


def empty_memory(space: Space, config: ConflictAwareConfig) -> Memory:
    """A memory without entries."""
    banks = len(config.banks)
    capacity = max(config.bank_capacity(bank) for bank in range(banks))
    return Memory(
        np.full((banks, capacity, len(gene_choices(space))), UNUSED, np.int32),
        np.zeros((banks, capacity), np.float32),
        np.zeros(banks, np.int32),
    )


def record(
    space: Space, config: ConflictAwareConfig, memory: Memory, bank: int, arch: Arch, score: float
) -> Memory:
    """The memory with one more entry; in a full bank it takes the worst one's place if better.

    Raises:
        ValueError: `score` is not finite, or `arch` is not of the space.
    """
    if not np.isfinite(score):
        raise ValueError(f"score of bank {bank} is {score}: give a finite one")
    genes, scores, counts = (np.array(array) for array in memory)
    place = int(counts[bank])
    if place == config.bank_capacity(bank):
        place = int(np.argmin(scores[bank, :place]))
        if score <= scores[bank, place]:
            return memory
    else:
        counts[bank] += 1
    genes[bank, place] = to_genes(space, arch)
    scores[bank, place] = score
    return Memory(genes, scores, counts)


def rescore(memory: Memory, bank: int, scores: np.ndarray) -> Memory:
    """The memory with new scores for all entries of a bank.

    Raises:
        ValueError: not one finite score per entry.
    """
    count = int(memory.counts[bank])
    given = np.asarray(scores, np.float32)
    if given.shape != (count,) or not np.all(np.isfinite(given)):
        raise ValueError(
            f"scores of bank {bank} are {given.tolist()}: give {count} finite ones, in order"
        )
    new = np.array(memory.scores)
    new[bank, :count] = given
    return memory._replace(scores=new)


def entries(space: Space, memory: Memory, bank: int) -> tuple[Arch, ...]:
    """The architectures of a bank, in the order of their places."""
    genes = np.asarray(memory.genes)[bank, : int(memory.counts[bank])]
    return tuple(from_genes(space, row) for row in genes)


def best(space: Space, memory: Memory, bank: int) -> Arch | None:
    """The architecture with the highest score; None in an empty bank."""
    count = int(memory.counts[bank])
    if not count:
        return None
    place = int(np.argmax(np.asarray(memory.scores)[bank, :count]))
    return from_genes(space, np.asarray(memory.genes)[bank, place])


def exploit(space: Space, memory: Memory, bank: int, rng: np.random.Generator) -> Arch:
    """An architecture of a bank, with probability proportional to exp(score)."""
    count = int(memory.counts[bank])
    scores = np.asarray(memory.scores)[bank, :count].astype(np.float64)
    ends = np.cumsum(np.exp(scores - scores.max()))
    place = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
    return from_genes(space, np.asarray(memory.genes)[bank, min(place, count - 1)])


def due(config: ConflictAwareConfig, batch: int, batches: int, bank: int) -> tuple[int, ...]:
    """The banks to score again at a batch of an epoch.

    All at the first batch; the current bank at the ends of the first three quarters.

    Args:
        batch: within the epoch, from 0.
        batches: of an epoch.
        bank: the current one.
    """
    if batch == 0:
        return tuple(range(len(config.banks)))
    quarter = batches // 4
    ends = {quarter - 1, 2 * quarter - 1, 3 * quarter - 1}
    return (bank,) if batch in ends else ()
