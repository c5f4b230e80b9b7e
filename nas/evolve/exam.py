"""Which split may be asked for which score, and when. Imports no JAX.

A search looks at the search split only. Its final front is measured once on the validation split
too, and then the winner is picked; it is measured once on the test split. Whoever picks a network
by the figures that are reported afterwards reports too much.
"""

import math
from collections.abc import Callable, Sequence

from loomax.nas.evolve.journal import Entry, Journal
from loomax.nas.space.arch import Arch

# Scores of some architectures on one of SPLITS, each in [0, 1]; on the test split accuracies.
Scores = Callable[[Sequence[Arch], str], Sequence[float]]
SPLITS = ("search", "validation", "test")


class Exam:
    """Evaluates networks, each at most once per split, and refuses what breaks the order.

    Args:
        scores: evaluates.
        journal: answers what is recorded in it, and records the rest.
        batch: networks that are evaluated at once.
    """

    def __init__(self, scores: Scores, journal: Journal | None = None, batch: int = 16):
        if batch < 1:
            raise ValueError(f"batch is {batch}: give at least 1")
        self._scores, self._journal, self._batch = scores, journal, batch
        self._known: dict[str, dict[Arch, float]] = {split: {} for split in SPLITS}

    def search(self, archs: Sequence[Arch]) -> list[float]:
        """Scores on the search split.

        Raises:
            ValueError: the search is over.
        """
        if self._known["validation"]:
            raise ValueError("the front was validated already: search in another exam")
        return self._evaluate(archs, "search")

    def validate(self, archs: Sequence[Arch]) -> list[float]:
        """Scores of the final front on the validation split, once.

        Raises:
            ValueError: a second time, or networks that were never searched.
        """
        if self._known["validation"]:
            raise ValueError("the front was validated already: a second choice would overfit it")
        if not archs or any(arch not in self._known["search"] for arch in archs):
            raise ValueError("validate a front of networks that were searched, at least one")
        return self._evaluate(archs, "validation")

    def test(self, arch: Arch, accuracy: Scores | None = None) -> float:
        """The winner's accuracy on the test split, once.

        Args:
            accuracy: of what is handed over, where that is no longer the network as it was
                searched.

        Raises:
            ValueError: a second time, or a network that is not of the validated front.
        """
        if self._known["test"]:
            raise ValueError("the test split was used already: it is for one network")
        if arch not in self._known["validation"]:
            raise ValueError("test the winner of the validated front, after validation")
        return self._evaluate([arch], "test", accuracy)[0]

    def _evaluate(
        self, archs: Sequence[Arch], split: str, scores: Scores | None = None
    ) -> list[float]:
        known, scores = self._known[split], scores or self._scores
        new = [arch for arch in dict.fromkeys(archs) if arch not in known]
        while new and self._journal is not None and self._journal.replaying:
            known[new[0]] = self._journal.recall(split, new[0])
            new = new[1:]
        for start in range(0, len(new), self._batch):
            group = new[start : start + self._batch]
            found = [float(value) for value in scores(group, split)]
            if len(found) != len(group) or not all(math.isfinite(value) for value in found):
                raise ValueError(
                    f"{len(found)} scores of {len(group)} networks, {found[:4]}: give a finite"
                    " one for each"
                )
            known.update(zip(group, found, strict=True))
            if self._journal is not None:
                entries = zip(group, found, strict=True)
                self._journal.record([Entry(split, arch, value) for arch, value in entries])
        return [known[arch] for arch in archs]
