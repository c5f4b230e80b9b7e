"""Expert trajectories as rows to learn from.

Shape letters: B rows, T tokens of a row (one more than are predicted).
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from loomax.agents.pretrain.data import Rows
from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.world.config import MIXTURE, Task
from loomax.agents.search.world.questions import draw_questions
from loomax.agents.search.world.solve import solve
from loomax.agents.search.world.trajectory import Find, expert
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import World


def trajectories(
    world: World,
    vocabulary: Vocabulary,
    count: int,
    *,
    seed: int,
    think: float = 0.5,
    tasks: Sequence[Task] = MIXTURE,
    split: str = "train",
    find: Find | None = None,
) -> Iterator[Transcript]:
    """Solved questions, one after the other.

    Args:
        think: the chance of each turn that its reasoning is written ("think-dropout" is the rest).
            Between 0 and 1, half of the trajectories leave out that of their first turns instead,
            any number of them, as an agent does that begins with steps without reasoning.

    Raises:
        ValueError: `think` is no chance.
    """
    if not 0 <= think <= 1:
        raise ValueError(f"think is {think}; it must be 0 to 1")
    rng = np.random.default_rng([world.config.seed, 3, seed])
    for question in draw_questions(world, count, split=split, seed=seed, tasks=tasks):
        written = _written(len(solve(world, question).searches) + 1, think, rng)
        yield expert(world, vocabulary, question, think=written.tolist(), find=find)


def _written(turns: int, think: float, rng: np.random.Generator) -> Bool[np.ndarray, " turns"]:
    """Which turns reason."""
    each = rng.random(turns) < think
    if not 0 < think < 1 or rng.random() < 0.5:
        return each
    return np.arange(turns) >= rng.integers(turns)


def pack(made: Iterable[Transcript], *, length: int, rows: int) -> Iterator[Rows]:
    """Batches of rows that hold whole trajectories, as many as fit, in order.

    Weights are 1 on what the model writes and 0 on questions, observations and padding. What does
    not fill the last batch is left out.

    Args:
        length: tokens that are predicted in a row.

    Raises:
        ValueError: a trajectory is longer than a row.
    """
    held: list[list[Transcript]] = [[]]
    for transcript in made:
        if len(transcript) > length + 1:
            raise ValueError(
                f"a trajectory has {len(transcript)} tokens; raise length from {length} to at "
                f"least {len(transcript) - 1}"
            )
        if sum(map(len, held[-1])) + len(transcript) > length + 1:
            if len(held) == rows:
                yield _rows(held, length)
                held = []
            held.append([])
        held[-1].append(transcript)
    if len(held) == rows and held[-1]:
        yield _rows(held, length)


def _rows(held: list[list[Transcript]], length: int) -> Rows:
    shape = (len(held), length + 1)
    tokens, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    weights = np.zeros(shape, np.float32)
    for row, transcripts in enumerate(held):
        start = 0
        for number, transcript in enumerate(transcripts, start=1):
            place = slice(start, start + len(transcript))
            tokens[row, place], segments[row, place] = transcript.tokens, number
            weights[row, place] = transcript.written
            start = place.stop
    return Rows(tokens, segments, weights)
