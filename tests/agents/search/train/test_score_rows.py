"""Rows of scored drafts: what counts in them, how they are mixed, and that they go on."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from loomax.agents.search.train.drafts import Draft
from loomax.agents.search.train.rows import ExpertRows
from loomax.agents.search.train.score_rows import JoinedRows, ScoredRows
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import make_world


@pytest.fixture(scope="module")
def words(debug):
    return Vocabulary(debug.world.sizes)


@pytest.fixture(scope="module")
def lesson(debug):
    made = debug.lessons[1]
    scored = replace(made.scored, share=0.5, weight=2.5)
    return replace(made, rows=replace(made.rows, length=48), scored=scored)


# The score of each searched name.
SCORES = {"Bal-bas": 5, "Bar-bas": 3, "Bel-bas": 1}
COUNTS = {"Bal-bas": 18, "Bar-bas": 1, "Bel-bas": 4}


@pytest.fixture(scope="module")
def drafts(words):
    """Most of them are right."""
    before, found = tuple(words.ids("rival of Bal-bas ?")), []
    for name, score in SCORES.items():
        written = tuple(words.ids(f"<search> {name} </search>"))
        found += [Draft(before, written, score, True, 1.0)] * COUNTS[name]
    return found


def batches(stream, count, held=None):
    if held:
        stream.restore(json.loads(json.dumps(held)))
    return list(islice(stream, count)), stream.state()


def same(one, other):
    for rows, twin in zip(one, other, strict=True):
        for part, its in zip(rows, twin, strict=True):
            np.testing.assert_array_equal(part, its)


def test_only_scores_count(drafts, words, lesson):
    ((rows,), _) = batches(ScoredRows(drafts, words, lesson, rows=6, seed=1), 1)
    assert rows.tokens.shape == (6, 49) and rows.weights.dtype == np.float32
    asked = np.roll(rows.tokens, 1, axis=1) == words.id("<think>")
    np.testing.assert_array_equal(rows.weights, np.where(asked, np.float32(2.5), 0))
    # Each document ends with its only target.
    for tokens, segments, weights in zip(*rows, strict=True):
        for number in range(1, segments.max() + 1):
            place = np.flatnonzero(segments == number)
            assert np.flatnonzero(weights[place]).tolist() == [len(place) - 1]
            name = words.decode(tokens[place]).split()[-4]
            assert tokens[place][-1] == words.id(str(SCORES[name]))


@pytest.mark.parametrize(
    ("held", "shares"),
    [
        ((5, 3, 1), {5: 0.5, 3: 0.25, 1: 0.25}),
        ((5, 1), {5: 0.5, 1: 0.5}),
        ((3, 1), {3: 0.5, 1: 0.5}),
        ((5,), {5: 1.0}),
    ],
)
def test_half_of_the_drafts_are_right(drafts, words, lesson, held, shares):
    kept = [draft for draft in drafts if draft.score in held]
    made, _ = batches(ScoredRows(kept, words, lesson, rows=6, seed=1), 20)
    found = np.concatenate([rows.tokens[rows.weights > 0] for rows in made])
    assert len(found) > 400
    for score, share in shares.items():
        # Four standard deviations of a fair coin.
        got = (found == words.id(str(score))).mean()
        assert got == pytest.approx(share, abs=4 * 0.5 / len(found) ** 0.5)


def test_without_drafts_there_are_no_scores(words, lesson):
    with pytest.raises(ValueError, match="0 drafts teach no scores; give at least 1"):
        ScoredRows([], words, lesson, rows=1, seed=0)


def test_no_two_batches_are_the_same(drafts, words, lesson):
    def made(**share):
        return batches(ScoredRows(drafts, words, lesson, rows=6, seed=1, **share), 2)[0]

    parts = [made(share=(number, 2)) for number in range(2)]
    assert len({rows.tokens.tobytes() for part in parts for rows in part}) == 4
    same(made(), [parts[0][0], parts[1][0]])


def test_joined_rows_go_on_where_they_stood(drafts, words, lesson, debug):
    def stream():
        whole = replace(lesson, rows=debug.lessons[1].rows)
        solved = ExpertRows(make_world(debug.world), words, whole, rows=3, seed=1)
        return JoinedRows(solved, ScoredRows(drafts, words, whole, rows=2, seed=1))

    whole, _ = batches(stream(), 4)
    first, state = batches(stream(), 2)
    same(whole, first + batches(stream(), 2, state)[0])
    opened = (whole[0].tokens == words.id("<information>")).any(axis=1)
    assert opened.tolist() == [True] * 3 + [False] * 2
