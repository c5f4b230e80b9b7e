"""Drafts at the steps of gold trajectories, and the score that each of them deserves.

The drafts are the model's own, so what learns from the scores learns how far it can trust itself
(SPAgent, arXiv 2511.20048, section III-D).
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from loomax.agents.search.ask import Brain
from loomax.agents.search.engine_protocol import Sampling
from loomax.agents.search.grammar.action import ToolCall
from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.loop.turn import Turn, key_of
from loomax.agents.search.train.brain import QUESTION
from loomax.agents.search.world.vocabulary import Vocabulary

# The search of the gold trajectory; one for another name that was read; anything else, such as a
# name that stands nowhere or a search where an answer is due.
RIGHT, READ, WRONG = 5, 3, 1


@dataclass(frozen=True)
class Step:
    """A turn of a gold trajectory.

    Args:
        before: tokens of its context.
        gold: key of its search; "" for the answer.
    """

    before: tuple[int, ...]
    gold: str


@dataclass(frozen=True)
class Draft:
    """What the model did in a step without reasoning.

    Args:
        before: tokens of its context.
        written: its own, with the opening that was forced upon it.
        score: that it deserves.
        call: whether it is a search, and not something that the loop refuses anyway.
        probability: the least of its tokens.
    """

    before: tuple[int, ...]
    written: tuple[int, ...]
    score: int
    call: bool
    probability: float


def steps_of(brain: Brain, transcript: Transcript) -> Iterator[Step]:
    """The turns of a gold trajectory, in order."""
    before: tuple[int, ...] = ()
    for span in transcript.spans:
        if span.source == "model":
            parser = brain.grammar.parser()
            pieces = brain.codec.reader().feed(span.tokens)
            events = [event for piece in pieces for event in parser.feed(piece)]
            calls = [event for event in events if isinstance(event, ToolCall)]
            yield Step(before, key_of(calls[0]) if calls else "")
        before += span.tokens


async def drafts_of(
    brain: Brain, made: Iterable[Transcript], *, samples: int, seed: int, at_once: int
) -> list[Draft]:
    """Drafts at all steps of gold trajectories; what is drawn twice at a step is there once.

    Args:
        samples: of each step: the first one greedy, the others as the loop draws further drafts.
        at_once: steps at the same time.
    """
    steps = [step for transcript in made for step in steps_of(brain, transcript)]
    gate = asyncio.Semaphore(at_once)

    async def at(number: int, step: Step) -> list[Draft]:
        async with gate:
            return await _at(brain, step, samples, seed + number)

    found = await asyncio.gather(*map(at, range(len(steps)), steps))
    return [draft for drafts in found for draft in drafts]


async def _at(brain: Brain, step: Step, samples: int, seed: int) -> list[Draft]:
    opening, limits, found = brain.codec.opening, brain.limits, {}
    for number in range(samples):
        temperature = limits.more_temperature if number else 0.0
        sampling = Sampling(limits.draft, temperature, brain.grammar.stops, seed, number)
        request = await brain.engine.submit((*step.before, *opening), sampling, kind="draft")
        try:
            turn = await Turn(brain.grammar, brain.codec, limits.draft, opening).read(request)
        finally:
            brain.engine.abort(request)
        found.setdefault((*opening, *turn.tokens), turn)
    return [_draft(brain, step, written, turn) for written, turn in found.items()]


def _draft(brain: Brain, step: Step, written: tuple[int, ...], turn: Turn) -> Draft:
    call = next((action for action in turn.actions if isinstance(action, ToolCall)), None)
    read = "".join(brain.codec.reader().feed(step.before))
    score = deserved(call, step.gold, read)
    return Draft(step.before, written, score, call is not None, turn.confidence)


def deserved(call: ToolCall | None, gold: str, read: str) -> int:
    """The score of a draft.

    Args:
        call: None for what is no search.
        gold: see `Step`.
        read: the text of the context.
    """
    if call is None or not gold:
        return WRONG
    if key_of(call) == gold:
        return RIGHT
    return READ if call.arguments["query"] in read.split() else WRONG


def scored(vocabulary: Vocabulary, draft: Draft) -> Transcript:
    """A draft with its score, which alone the model writes."""
    asked: Sequence[int] = (*draft.before, *draft.written, *vocabulary.ids(QUESTION))
    return Transcript().add(asked, "prompt").add(vocabulary.ids(str(draft.score)), "model")
