"""Settings of conflict-aware sampling. Imports no JAX."""

import math
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class ConflictAwareConfig:
    """The published settings, with MACs as the complexity (arXiv 2303.09730 and its public code).

    Args:
        banks: lower ends of the windows of complexity, growing.
        window: length of a window: a net of bank b costs between banks[b] and that plus window.
        nets: nets of a step that are drawn from the bank's window.
        capacity: entries of a bank's memory.
        large_from: banks from here on have `large_capacity` entries.
        large_capacity: entries of a large bank's memory.
        exploit: probability at first that a net comes from the memory.
        exploit_growth: added to it every `growth_epochs` epochs.
        growth_epochs: epochs.
        candidates: drawn for a net that does not come from the memory; one is preferred.
        performance_aware: False leaves memory and preference out.
    """

    banks: tuple[float, ...] = (100e6, 200e6, 300e6, 400e6, 500e6, 700e6, 900e6, 1200e6)
    window: float = 20e6
    nets: int = 3
    capacity: int = 150
    large_from: float = 500e6
    large_capacity: int = 50
    exploit: float = 0.2
    exploit_growth: float = 0.15
    growth_epochs: int = 100
    candidates: int = 5
    performance_aware: bool = True

    def __post_init__(self):
        # As `not a < b`: what is not a number is refused too.
        ends = (0.0, *self.banks, math.inf)
        if not self.banks or not all(a < b for a, b in pairwise(ends)):
            raise ValueError(f"banks is {self.banks}: give lower ends above 0 that grow")
        if not 0 < self.window < math.inf:
            raise ValueError(f"window is {self.window}: give a length above 0")
        if math.isnan(self.large_from):
            raise ValueError(f"large_from is {self.large_from}: give a number")
        for name in ("nets", "capacity", "large_capacity", "growth_epochs", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give 1 or more")
        for name in ("exploit", "exploit_growth"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a value in [0, 1]")

    def bank_capacity(self, bank: int) -> int:
        """Entries of one bank's memory."""
        return self.capacity if self.banks[bank] < self.large_from else self.large_capacity

    def exploit_at(self, epoch: int) -> float:
        """Probability in an epoch (from 0) that a net comes from the memory."""
        raised = self.exploit_growth * ((epoch + 1) // self.growth_epochs)
        return min(1.0, self.exploit + raised)
