"""An endless stream of rows of expert trajectories that can go on from where it stood.

Shape letters: B rows, T tokens of a row (one more than are predicted).
"""

from collections.abc import Iterator
from typing import Any

from loomax.agents.pretrain.data import Rows
from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.train.config import LessonConfig
from loomax.agents.search.world.dataset import pack, trajectories
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import World

# No trajectory is shorter.
SHORTEST = 32


class ExpertRows:
    """Batches of one lesson; each has a seed of its own, so its number is all there is to keep.

    Args:
        rows: of each batch.
        seed: of the lesson.
        share: number of this stream, and how many there are; no two read the same.
    """

    def __init__(
        self,
        world: World,
        vocabulary: Vocabulary,
        lesson: LessonConfig,
        *,
        rows: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ):
        self._world, self._vocabulary, self._lesson = world, vocabulary, lesson
        self._rows, (self._number, self._shares) = rows, share
        self._seed, self._next = seed, 0

    def __iter__(self) -> Iterator[Rows]:
        return self

    def __next__(self) -> Rows:
        length = self._lesson.rows.length
        made = trajectories(
            self._world,
            self._vocabulary,
            self._rows * (length // SHORTEST + 1),
            seed=self._seed + self._next * self._shares + self._number,
            think=self._lesson.think,
            tasks=self._lesson.tasks,
        )
        made = (without_guess(transcript, self._vocabulary) for transcript in made)
        self._next += 1
        return without_openings(next(pack(made, length=length, rows=self._rows)), self._vocabulary)

    def state(self) -> dict[str, Any]:
        """Where the stream stands, as JSON can hold it."""
        return {"next": self._next}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self._next = state["next"]


def without_guess(transcript: Transcript, vocabulary: Vocabulary) -> Transcript:
    """A trajectory in which an answer without reasoning is an empty search.

    An answer is never drafted; but a search is, and where there is nothing more to look for the
    draft has to be one that is refused.
    """
    *before, last = transcript.spans
    if last.tokens[0] == vocabulary.id("<think>"):
        return transcript
    return Transcript(tuple(before)).add(vocabulary.ids("<search> </search>"), "model")


def without_openings(rows: Rows, vocabulary: Vocabulary) -> Rows:
    """Rows in which the tag that opens a search without reasoning counts nothing.

    It is forced upon drafts. Where it counted, a model would learn to toss a coin at the start
    of a turn instead of reasoning.
    """
    opening = rows.tokens[:, 1:] == vocabulary.id("<search>")
    direct = opening & (rows.tokens[:, :-1] != vocabulary.id("</think>"))
    weights = rows.weights.copy()
    weights[:, 1:][direct] = 0
    return rows._replace(weights=weights)
