"""Expert trajectories: the grammar reads them, and the mask covers what was retrieved."""

import itertools
from collections import Counter

import numpy as np
import pytest

from loomax.agents.search.grammar.action import Answer, Reasoning, ToolCall
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.world.config import Task
from loomax.agents.search.world.dataset import pack, trajectories
from loomax.agents.search.world.documents import document
from loomax.agents.search.world.questions import draw_questions
from loomax.agents.search.world.score import exact_match
from loomax.agents.search.world.solve import solve
from loomax.agents.search.world.trajectory import expert, turns
from loomax.agents.search.world.vocabulary import OBSERVATIONS
from loomax.models.tokenizer.bpe import END

GRAMMAR = SearchR1Grammar(OBSERVATIONS)


def read(text):
    parser = GRAMMAR.parser()
    return parser.feed(text) + parser.finish()


@pytest.mark.parametrize("think", [True, False])
def test_every_turn_is_an_action_of_the_solution(world, vocabulary, think):
    for question in draw_questions(world, 15, split="held_out"):
        solution = solve(world, question)
        steps = (*solution.searches, solution.answer)
        made = expert(world, vocabulary, question, think=[think] * len(steps))
        written = [s.tokens for s in made.spans if s.source == "model"]
        assert len(written) == len(steps) and written[-1][-1] == END
        for step, tokens in zip(steps, written, strict=True):
            events = read(vocabulary.decode(np.array(tokens, np.int32)))
            name = world.name(step.entity)
            end = Answer(name) if step is steps[-1] else ToolCall("search", {"query": name})
            assert events == ([Reasoning(step.reasoning)] if think else []) + [end]
        assert exact_match(events[-1].text, [world.name(solution.answer.entity)])


def test_the_mask_leaves_out_questions_and_observations(world, vocabulary):
    (question,) = draw_questions(world, 1, split="train", tasks=[Task("chain", 2)])
    made = expert(world, vocabulary, question, think=[True] * 3)
    hidden = vocabulary.decode(made.tokens[~made.written])
    shown = vocabulary.decode(made.tokens[made.written])
    for step in solve(world, question).searches:
        name, text = world.name(step.entity), document(world, step.entity).text
        assert f"<information> {name} {text} </information>" in hidden
    assert "<think>" not in hidden and "<search>" not in hidden and "<answer>" not in hidden
    assert "<information>" not in shown and shown.count("<think>") == 3


def test_a_retriever_may_stand_in_for_the_gold_document(world, vocabulary):
    (question,) = draw_questions(world, 1, split="train", tasks=[Task("chain", 2)])
    asked = []

    def find(name):
        asked.append(name)
        return []

    made = expert(world, vocabulary, question, think=[False] * 3, find=find)
    assert asked == [world.name(step.entity) for step in solve(world, question).searches]
    assert "<information> nothing </information>" in vocabulary.decode(made.tokens)


def test_think_needs_an_entry_for_each_turn(world):
    (question,) = draw_questions(world, 1, split="train", tasks=[Task("chain", 2)])
    with pytest.raises(ValueError, match="think has 2 entries; the solution has 3 turns"):
        turns(world, solve(world, question), [True, True])


def test_think_is_dropped_as_asked(world, vocabulary):
    think, action = vocabulary.id("<think>"), {vocabulary.id("<search>"), vocabulary.id("<answer>")}

    def reasoned(made):
        """For every turn whether it has reasoning; the action alone opens one without."""
        written = [span.tokens for span in made.spans if span.source == "model"]
        assert all(tokens[0] == think or tokens[0] in action for tokens in written)
        return tuple(bool(tokens[0] == think) for tokens in written)

    kinds = [Task("chain", 3)]
    found = Counter(
        map(reasoned, trajectories(world, vocabulary, 800, seed=0, think=0.3, tasks=kinds))
    )
    # Half by chance, half with a first part left out, each of 4 lengths as often.
    for case in itertools.product((False, True), repeat=4):
        skipped = 4 - sum(case)
        share = 0.3 ** sum(case) * 0.7**skipped / 2
        if any(case) and case == (False,) * skipped + (True,) * sum(case):
            share += 1 / 8
        spread = (share * (1 - share) / 800) ** 0.5
        assert found[case] / 800 == pytest.approx(share, abs=4 * spread)
    for share in (0.0, 1.0):
        (made,) = trajectories(world, vocabulary, 1, seed=0, think=share, tasks=kinds)
        assert reasoned(made) == (bool(share),) * 4
    with pytest.raises(ValueError, match="think is 1.5"):
        next(trajectories(world, vocabulary, 1, seed=0, think=1.5))


def test_rows_hold_whole_trajectories(world, vocabulary):
    made = list(trajectories(world, vocabulary, 30, seed=1))
    batches = list(pack(made, length=400, rows=2))
    assert all(part.shape == (2, 401) for batch in batches for part in batch)
    found = []
    for batch in batches:
        for tokens, segments, weights in zip(*batch, strict=True):
            for number in range(1, segments.max() + 1):
                place = segments == number
                assert np.flatnonzero(np.diff(place.astype(int))).size <= 2
                found.append((tokens[place].tolist(), weights[place].tolist()))
            assert not tokens[segments == 0].any() and not weights[segments == 0].any()
    expected = [(t.tokens.tolist(), t.written.astype(float).tolist()) for t in made]
    # The last batch is not full.
    assert len(found) > 20 and found == expected[: len(found)]


def test_a_trajectory_that_does_not_fit_is_refused(world, vocabulary):
    with pytest.raises(ValueError, match="raise length from 20 to at least"):
        list(pack(trajectories(world, vocabulary, 1, seed=0), length=20, rows=1))


def test_the_same_seed_gives_the_same_rows(world, vocabulary):
    def rows(seed):
        return list(pack(trajectories(world, vocabulary, 8, seed=seed), length=300, rows=2))

    one, again, other = rows(1), rows(1), rows(2)
    assert all((a.tokens == b.tokens).all() for a, b in zip(one, again, strict=True))
    assert (one[0].tokens != other[0].tokens).any()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("Bal-den", True),
        (" bal-DEN. ", True),
        ("the Bal-den", True),
        ("Bal den", False),
        ("", False),
        (None, False),
    ],
)
def test_exact_match(given, match):
    assert exact_match(given, ["Bal-den", "other"]) is match
