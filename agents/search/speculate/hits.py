"""How often drafts are right, learnt as they are judged."""

from collections.abc import Sequence

from loomax.agents.search.speculate.config import HIT_RATES


class HitModel:
    """A Beta posterior for each step, which forgets.

    Args:
        prior: expected rate by step, from 0; the last one goes on.
        strength: drafts that the prior is worth.
        memory: what is left of an observation after one more; 0.98 remembers about 50 drafts.
    """

    def __init__(
        self, prior: Sequence[float] = HIT_RATES, strength: float = 4.0, memory: float = 0.98
    ):
        if not prior or not all(0 <= rate <= 1 for rate in prior):
            raise ValueError(f"prior is {tuple(prior)}; give at least one rate, each 0 to 1")
        self._prior, self._strength, self._memory = tuple(prior), strength, memory
        self._seen = [[0.0, 0.0] for _ in prior]

    def rate(self, step: int) -> float:
        """Expected chance that one draft is right."""
        hits, drafts = self._seen[self._place(step)]
        return (self._prior[self._place(step)] * self._strength + hits) / (self._strength + drafts)

    def judge(self, step: int, right: bool) -> None:
        """Learns of one draft."""
        seen = self._seen[self._place(step)]
        seen[0] = seen[0] * self._memory + right
        seen[1] = seen[1] * self._memory + 1

    def _place(self, step: int) -> int:
        return min(step, len(self._prior) - 1)


class Average:
    """An average that forgets.

    Args:
        first: before anything was seen.
    """

    def __init__(self, first: float, weight: float = 0.1):
        self.value, self._weight, self._seen = first, weight, 0

    def add(self, value: float) -> None:
        """Learns of one value; the first few weigh as much as each other."""
        self._seen += 1
        self.value += max(self._weight, 1 / self._seen) * (value - self.value)
