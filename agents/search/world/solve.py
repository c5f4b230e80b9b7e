"""The gold solution of a question: what to search for, why, and the answer.

The reasoning of a "largest" question carries a running maximum, and writes the two sizes that it
compares side by side: comparing all at once is more than a model below a million parameters learns.
"""

from dataclasses import dataclass

from loomax.agents.search.world.config import RELATIONS
from loomax.agents.search.world.questions import Question
from loomax.agents.search.world.world import World


@dataclass(frozen=True)
class Step:
    """One search, or the answer as the last step.

    Args:
        reasoning: what leads to it.
        entity: whose document is searched for, or which one is the answer.
    """

    reasoning: str
    entity: int


@dataclass(frozen=True)
class Solution:
    """Searches in order, then the answer."""

    searches: tuple[Step, ...]
    answer: Step


def solve(world: World, question: Question) -> Solution:
    """The solution that needs the fewest searches.

    Raises:
        ValueError: the start does not have as many members as the question says.
    """
    if question.kind == "chain":
        first = f"{_relation(question, 0)} of {world.name(question.start)} ."
        return _follow(world, question, (Step(first, question.start),), "", question.start)
    members = world.members_of(question.start)
    if len(members) != question.members:
        raise ValueError(
            f"{world.name(question.start)} has {len(members)} members, not {question.members}"
        )
    return _largest(world, question, members)


def _largest(world: World, question: Question, members: tuple[int, ...]) -> Solution:
    name, size = world.name, world.sizes
    known = f"members are {' '.join(map(name, members))} . "
    steps = [Step(f"members of {name(question.start)} .", question.start)]
    best = members[0]
    for member in members:
        steps.append(Step(f"{known}size of {name(member)} .", member))
        known = f"size of {name(member)} is {size[member]} . "
        if member != best:
            more = size[member] > size[best]
            known += f"{size[best]} {size[member]} {'more' if more else 'less'} . "
            best = member if more else best
        known += f"largest {name(best)} {size[best]} . "
    return _follow(world, question, tuple(steps), known, best)


def _follow(
    world: World, question: Question, steps: tuple[Step, ...], known: str, entity: int
) -> Solution:
    """Follows the relations from an entity whose document has been read."""
    for number, relation in enumerate(question.relations):
        target = int(world.relations[entity, relation])
        known += f"{RELATIONS[relation]} of {world.name(entity)} is {world.name(target)} ."
        if number + 1 == len(question.relations):
            return Solution(steps, Step(known, target))
        wanted = f" {_relation(question, number + 1)} of {world.name(target)} ."
        steps, known, entity = (*steps, Step(known + wanted, target)), "", target
    raise ValueError("a question follows at least one relation")


def _relation(question: Question, number: int) -> str:
    return RELATIONS[question.relations[number]]
