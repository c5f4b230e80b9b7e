"""Drafts of a made-up model, and their scores against the solutions of the questions."""

import asyncio
from random import Random

import numpy as np
import pytest

from loomax.agents.search.ask import Brain
from loomax.agents.search.engine_protocol import Piece
from loomax.agents.search.grammar.action import Answer, Malformed, Reasoning, ToolCall
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.codec import TextCodec
from loomax.agents.search.loop.turn import key_of
from loomax.agents.search.train.brain import LIMITS, QUESTION
from loomax.agents.search.train.drafts import Draft, deserved, drafts_of, scored, steps_of
from loomax.agents.search.world.dataset import trajectories
from loomax.agents.search.world.questions import draw_questions, text_of
from loomax.agents.search.world.solve import solve
from loomax.agents.search.world.vocabulary import OBSERVATIONS, Vocabulary
from loomax.agents.search.world.world import make_world
from loomax.models.tokenizer.bpe import BEGIN

COUNT, SEED = 40, 5


class GuessingRequest:
    def __init__(self, tokens):
        self.tokens = tokens

    async def __aiter__(self):
        for token in self.tokens:
            await asyncio.sleep(0)
            yield Piece((token,), (-0.5,))


class GuessingEngine:
    """Searches for a name of its context or any other, or writes what is no search."""

    def __init__(self, world, words):
        self.world, self.words, self.held, self.seen = world, words, 0, []

    async def submit(self, tokens, sampling, *, kind="main", parent=None):
        self.held += 1
        self.seen.append((kind, sampling))
        assert tokens[-1] == self.words.id("<search>")
        return GuessingRequest(self.words.ids(self.text(tokens, sampling)))

    def text(self, tokens, sampling):
        random = Random(f"{sampling.seed} {sampling.sample}")
        read = self.words.decode(np.array(tokens))
        names = [word for word in read.split() if "-" in word]
        other = self.world.name(random.randrange(self.world.config.entities))
        strange = ("</search>", "of of of of of of of of of", "<think>")
        kinds = ([f"{names[-1]} </search>"], [f"{random.choice(names)} </search>"])
        return random.choice(random.choice((*kinds, [f"{other} </search>"], strange)))

    def abort(self, request):
        self.held -= 1

    # Of the protocol, but not needed here.
    fork = halt = load = watch = abort


@pytest.fixture(scope="module")
def world(debug):
    return make_world(debug.world)


@pytest.fixture(scope="module")
def words(debug):
    return Vocabulary(debug.world.sizes)


@pytest.fixture(scope="module")
def brain(world, words):
    codec = TextCodec(words, begin=(BEGIN,), question=QUESTION)
    return Brain(GuessingEngine(world, words), codec, SearchR1Grammar(OBSERVATIONS), LIMITS)


@pytest.fixture(scope="module")
def made(world, words):
    return list(trajectories(world, words, COUNT, seed=SEED))


@pytest.fixture(scope="module")
def drafts(brain, made):
    return asyncio.run(drafts_of(brain, made, samples=3, seed=0, at_once=4))


def test_steps_are_the_turns_of_the_solution(world, words, brain, made):
    for question, transcript in zip(
        draw_questions(world, COUNT, split="train", seed=SEED), made, strict=True
    ):
        steps, wanted = list(steps_of(brain, transcript)), solve(world, question).searches
        calls = [ToolCall("search", {"query": world.name(step.entity)}) for step in wanted]
        assert [step.gold for step in steps] == [*map(key_of, calls), ""]
        shown = [words.decode(np.array(step.before)) for step in steps]
        assert shown[0] == text_of(world, question)
        assert [text.count("</information>") for text in shown] == list(range(len(steps)))
        assert all(text.endswith("</information>") for text in shown[1:])


def test_scores_are_those_of_the_solutions(world, words, drafts):
    questions = draw_questions(world, COUNT, split="train", seed=SEED)
    golds = {
        text_of(world, question): [world.name(s.entity) for s in solve(world, question).searches]
        for question in questions
    }
    seen = set()
    for draft in drafts:
        read = words.decode(np.array(draft.before))
        names, step = golds[read.partition(" ?")[0] + " ?"], read.count("</information>")
        gold = names[step] if step < len(names) else None
        first, *rest = words.decode(np.array(draft.written)).split()
        whole = first == "<search>" and len(rest) == 2 and rest[1] == "</search>"
        wanted = 1
        if whole and gold is not None:
            wanted = 5 if rest[0] == gold else 3 if f" {rest[0]} " in f" {read} " else 1
        assert (draft.score, draft.call) == (wanted, whole)
        assert draft.probability == pytest.approx(np.exp(-0.5))
        seen.add((wanted, whole, gold is None))
    # All that can happen did.
    assert seen == {(5, True, False), (3, True, False), (1, True, False)} | {
        (1, whole, due) for whole in (True, False) for due in (True, False)
    }


def test_the_first_draft_is_greedy_and_nothing_is_held_after(brain, drafts):
    engine = brain.engine
    assert engine.held == 0
    assert {(kind, s.sample, s.temperature) for kind, s in engine.seen} == {
        ("draft", 0, 0.0),
        ("draft", 1, 1.0),
        ("draft", 2, 1.0),
    }
    assert len({s.seed for _, s in engine.seen}) == len(engine.seen) / 3
    found = [(draft.before, draft.written) for draft in drafts]
    assert len(set(found)) == len(found) < len(engine.seen)


def test_a_search_where_an_answer_is_due_is_wrong():
    call = ToolCall("search", {"query": "Bal-bas"})
    assert deserved(call, key_of(call), "") == 5
    assert deserved(call, "", "Bal-bas") == 1
    assert deserved(call, "other", "founder Bal-bas .") == 3
    assert deserved(call, "other", "founder Bal-bar .") == 1
    assert deserved(None, key_of(call), "Bal-bas") == 1


def test_only_the_score_is_written(words, drafts):
    for draft in drafts[:20]:
        transcript = scored(words, draft)
        tokens = transcript.tokens
        assert transcript.written.tolist() == [False] * (len(tokens) - 1) + [True]
        assert words.decode(tokens[-2:]) == f"<think> {draft.score}"
        assert tuple(tokens[:-2]) == draft.before + draft.written


def test_the_question_stands_nowhere_else(words, brain, made):
    """No trajectory has it, and a parser has ended before it."""
    closed, asked = words.id("</search>"), words.id(QUESTION)
    for transcript in made:
        tokens = transcript.tokens
        assert not ((tokens[:-1] == closed) & (tokens[1:] == asked)).any()
    parser = brain.grammar.parser()
    (event,) = parser.feed("<search> Bal-bas </search> <think> 5")
    assert event == ToolCall("search", {"query": "Bal-bas"}) and parser.done
    assert not isinstance(event, Answer | Malformed | Reasoning)


@pytest.mark.parametrize(("score", "confidence"), [(1, 0.0), (3, 0.5), (5, 1.0)])
def test_a_score_comes_back_through_the_codec(words, brain, score, confidence):
    draft = Draft((1,), tuple(words.ids("<search> Bal-bas </search>")), score, True, 1.0)
    tokens = scored(words, draft).tokens.tolist()
    assert tuple(tokens[-2:-1]) == brain.codec.question
    assert brain.codec.score(tokens[-1]) == confidence
