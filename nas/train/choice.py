"""Which nets a step trains, and who teaches whom: by rule, seed and step. Imports no JAX."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from loomax.nas.sample.conflict_aware import Sampler, make_sampler, sample_step
from loomax.nas.sample.memory import Memory, empty_memory, record
from loomax.nas.sample.rules import sandwich, uniform
from loomax.nas.space.arch import Arch
from loomax.nas.space.count import macs
from loomax.nas.space.space import Space
from loomax.nas.train.config import SamplerConfig

BY_BANK = ("complexity", "performance")


@dataclass(frozen=True)
class Choice:
    """The nets of a step.

    Args:
        archs: teachers come before students.
        teachers: how many of them teach the others.
        bank: from which they are; -1 without banks.
        explored: for each net, whether it may be recorded in the bank's memory.
    """

    archs: tuple[Arch, ...]
    teachers: int
    bank: int = -1
    explored: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Chooser:
    """Chooses nets; made once by `make_chooser`."""

    space: Space
    config: SamplerConfig
    sampler: Sampler | None

    def choose(self, memory: Any, *, seed: int, step: int, epoch: int) -> Choice:
        """The nets of a step (from 0) in an epoch (from 0)."""
        if self.sampler is not None:
            if not isinstance(memory, Memory):
                memory = empty_memory(self.space, self.sampler.config)
            drawn = sample_step(self.sampler, memory, seed=seed, step=step, epoch=epoch)
            archs = (*drawn.nets, drawn.smallest)
            return Choice(archs, len(drawn.nets), drawn.bank, (*drawn.explored, False))
        if self.config.rule == "sandwich":
            archs = sandwich(self.space, seed=seed, step=step, nets=self.config.nets)
            return Choice(archs, 1)
        archs = uniform(self.space, seed=seed, step=step, nets=self.config.nets)
        return Choice(archs, len(archs))

    def remember(self, memory: Any, choice: Choice, losses: Sequence[float]) -> Any:
        """The memory with the step's explored nets.

        Args:
            losses: cross-entropy of each net on the step's images.
        """
        if not isinstance(memory, Memory):
            return memory
        for arch, explored, loss in zip(choice.archs, choice.explored, losses, strict=True):
            if explored:
                memory = record(
                    self.space, self.sampler.config, memory, choice.bank, arch, -float(loss)
                )
        return memory


def empty_memory_of(space: Space, config: SamplerConfig) -> Any:
    """The memory before the first step; () where nothing is remembered."""
    return empty_memory(space, config.banks) if config.rule == "performance" else ()


def make_chooser(
    space: Space, config: SamplerConfig, hierarchy: tuple[tuple[float, Arch], ...] = ()
) -> Chooser:
    """What a rule needs; tables of the banks take a while.

    Args:
        hierarchy: smallest nets by bank, see `make_sampler`.

    Raises:
        ValueError: a bank holds no net of the space.
    """
    if config.rule not in BY_BANK:
        return Chooser(space, config, None)
    banks = replace(config.banks, performance_aware=config.rule == "performance")
    return Chooser(space, config, make_sampler(space, banks, macs, hierarchy))
