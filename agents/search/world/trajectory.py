"""Expert trajectories: the gold solution as a model would write it, with observations between."""

from collections.abc import Callable, Sequence

from loomax.agents.search.grammar.action import ToolCall
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.world.documents import document
from loomax.agents.search.world.questions import Question, text_of
from loomax.agents.search.world.solve import Solution, solve
from loomax.agents.search.world.vocabulary import OBSERVATIONS, Vocabulary, prompt_ids
from loomax.agents.search.world.world import World
from loomax.models.tokenizer.bpe import END

# A name to the documents that a search for it finds.
Find = Callable[[str], Sequence[Document]]


def turns(world: World, solution: Solution, think: Sequence[bool]) -> list[str]:
    """What the expert writes in each turn; the last one is the answer.

    Args:
        think: for each turn, whether its reasoning is written. A model that has learnt from both
            acts with and without reasoning.

    Raises:
        ValueError: `think` has not one entry a turn.
    """
    steps = (*solution.searches, solution.answer)
    if len(think) != len(steps):
        raise ValueError(f"think has {len(think)} entries; the solution has {len(steps)} turns")
    written = []
    for step, thought in zip(steps, think, strict=True):
        tag = "answer" if step is solution.answer else "search"
        reasoning = f"<think> {step.reasoning} </think> " if thought else ""
        written.append(f"{reasoning}<{tag}> {world.name(step.entity)} </{tag}>")
    return written


def expert(
    world: World,
    vocabulary: Vocabulary,
    question: Question,
    *,
    think: Sequence[bool],
    find: Find | None = None,
) -> Transcript:
    """The tokens of a solved question, and which of them the model writes.

    Args:
        think: see `turns`.
        find: the retriever; None gives the gold document alone.
    """
    solution, grammar = solve(world, question), SearchR1Grammar(OBSERVATIONS)
    *searches, answer = turns(world, solution, think)
    made = Transcript().add(prompt_ids(vocabulary, text_of(world, question)), "prompt")
    for step, written in zip(solution.searches, searches, strict=True):
        found = find(world.name(step.entity)) if find else [document(world, step.entity)]
        call = ToolCall("search", {"query": world.name(step.entity)})
        made = made.add(vocabulary.ids(written), "model")
        made = made.add(vocabulary.ids(grammar.observe(call, found)), "observation")
    return made.add([*vocabulary.ids(answer), END], "model")
