"""Questions: where they start and what they follow. Drawn from a seed, in training or held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loomax.agents.search.world.config import MIXTURE, RELATIONS, Kind, Task
from loomax.agents.search.world.world import World

# Apart from the draws that make the world.
STREAM = {"train": 1, "held_out": 2}


@dataclass(frozen=True)
class Question:
    """A question about one entity.

    Args:
        start: the entity.
        relations: numbers of those that are followed, in order.
        members: of the start, 0 for a chain.
    """

    kind: Kind
    start: int
    relations: tuple[int, ...]
    members: int = 0


def draw_questions(
    world: World,
    count: int,
    *,
    split: str,
    seed: int = 0,
    tasks: Sequence[Task] = MIXTURE,
) -> list[Question]:
    """`count` questions of a split; those of the two splits start from different entities.

    A question may be drawn more than once.

    Raises:
        ValueError: there is nothing to ask, or no entity to ask about.
    """
    if count < 1 or not tasks:
        raise ValueError(f"{count} questions of {len(tasks)} tasks: at least 1 of each is needed")
    starts = world.starts(split)
    rng = np.random.default_rng([world.config.seed, STREAM[split], seed])
    shares = np.array([task.share for task in tasks])
    kinds = rng.choice(len(tasks), size=count, p=shares / shares.sum())
    pools = [_pool(world, starts, task) for task in tasks]
    picks, paths = rng.random(count), rng.integers(len(RELATIONS), size=(count, 4))
    return [
        Question(
            kind=tasks[kind].kind,
            start=int(pools[kind][int(pick * len(pools[kind]))]),
            relations=tuple(path[: tasks[kind].relations].tolist()),
            members=tasks[kind].members,
        )
        for kind, pick, path in zip(kinds.tolist(), picks.tolist(), paths, strict=True)
    ]


def _pool(world: World, starts: np.ndarray, task: Task) -> np.ndarray:
    """The starts that a task can ask about."""
    if task.kind == "chain":
        return starts
    pool = starts[(world.members[starts] >= 0).sum(axis=1) == task.members]
    if not len(pool):
        raise ValueError(f"no entity has {task.members} members: raise entities or held_out")
    return pool


def text_of(world: World, question: Question) -> str:
    """The question in words: the last relation comes first, as in English."""
    path = " of ".join(RELATIONS[relation] for relation in reversed(question.relations))
    about = "largest member of " if question.kind == "largest" else ""
    return f"{path} of {about}{world.name(question.start)} ?"
