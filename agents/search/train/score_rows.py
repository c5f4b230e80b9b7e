"""Streams of rows that teach scores, beside rows that keep the rest.

Shape letters: B rows, T tokens of a row (one more than are predicted).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from loomax.agents.pretrain.data import Rows
from loomax.agents.pretrain.streams import Stream
from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.train.config import LessonConfig
from loomax.agents.search.train.drafts import RIGHT, Draft, scored
from loomax.agents.search.world.dataset import pack
from loomax.agents.search.world.vocabulary import Vocabulary


class ScoredRows:
    """Batches of scored drafts. Each has a seed of its own, so its number is all there is to keep.

    Half of the drafts are right, and the other scores share the rest evenly: few drafts are wrong,
    and a model that always says 5 would have learnt nothing.

    Args:
        rows: of each batch.
        seed: of the lesson.
        share: number of this stream, and how many there are; no two read the same.

    Raises:
        ValueError: there are no drafts.
    """

    def __init__(
        self,
        drafts: Sequence[Draft],
        vocabulary: Vocabulary,
        lesson: LessonConfig,
        *,
        rows: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ):
        if not drafts:
            raise ValueError("0 drafts teach no scores; give at least 1")
        self._pools = _pools(drafts)
        self._vocabulary, self._lesson, self._rows = vocabulary, lesson, rows
        self._seed, self._next, (self._number, self._shares) = seed, 0, share

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        rng = np.random.default_rng([self._seed, self._next * self._shares + self._number])
        self._next += 1
        lesson = self._lesson
        rows = next(pack(self._drawn(rng), length=lesson.rows.length, rows=self._rows))
        return rows._replace(weights=lesson.scored.weight * rows.weights)

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON can hold it."""
        return {"next": self._next}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self._next = state["next"]

    def _drawn(self, rng: np.random.Generator) -> Iterator[Transcript]:
        while True:
            pool = self._pools[rng.integers(len(self._pools))]
            yield scored(self._vocabulary, pool[rng.integers(len(pool))])


def _pools(drafts: Sequence[Draft]) -> list[list[Draft]]:
    """Drafts by score, those that are right as often as all others together."""
    pools: dict[int, list[Draft]] = {}
    for draft in drafts:
        pools.setdefault(draft.score, []).append(draft)
    right = pools.pop(RIGHT, None)
    others = list(pools.values())
    return others if right is None else [right] * max(1, len(others)) + others


class JoinedRows:
    """Batches whose rows come from several streams, one after the other."""

    def __init__(self, *streams: Stream):
        self._streams = streams

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        read = [next(stream) for stream in self._streams]
        return Rows(*map(np.concatenate, zip(*read, strict=True)))

    def state(self) -> dict[str, Any]:
        """Where the streams stand, as JSON can hold it."""
        return {"parts": [stream.state() for stream in self._streams]}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        for stream, held in zip(self._streams, state["parts"], strict=True):
            stream.restore(held)
