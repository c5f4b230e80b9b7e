"""Rows of a lesson: what they hold, and that they go on where they stood."""

import json
from itertools import islice

import numpy as np
import pytest

from loomax.agents.search.train.rows import SHORTEST, ExpertRows
from loomax.agents.search.world.config import Task, WorldConfig
from loomax.agents.search.world.dataset import trajectories
from loomax.agents.search.world.vocabulary import Vocabulary
from loomax.agents.search.world.world import make_world


@pytest.fixture(scope="module")
def made(debug):
    return make_world(debug.world), Vocabulary(debug.world.sizes), debug.lessons[1]


def batches(made, count, held=None, **options):
    rows = ExpertRows(*made, rows=4, seed=3, **options)
    if held:
        rows.restore(held)
    return list(islice(rows, count)), rows.state()


def test_only_what_the_model_writes_counts(made):
    ((rows,), _) = batches(made, 1)
    words = made[1]
    assert rows.tokens.shape == (4, 289)
    opened = rows.tokens == words.id("<information>")
    assert opened.any() and not rows.weights[opened].any()
    # Whoever answers has reasoned; a draft in that place is an empty search.
    ids = words.ids("<search> </search>")
    follows = (rows.tokens[:, :-1] == ids[0]) & (rows.tokens[:, 1:] == ids[1])
    ends = (rows.segments[:, 1:] != rows.segments[:, :-1])[:, 1:]
    assert follows.any() and ends[follows[:, :-1]].all()
    answers = np.roll(rows.tokens, 1, axis=1)[rows.tokens == words.id("<answer>")]
    assert len(answers) and (answers == words.id("</think>")).all()
    for tag in ("<think>", "</think>", "</search>", "</answer>"):
        assert rows.weights[rows.tokens == words.id(tag)].all()
    before = np.roll(rows.tokens, 1, axis=1) == words.id("</think>")
    # What opens a draft is forced upon it.
    opens = rows.tokens == words.id("<search>")
    np.testing.assert_array_equal(rows.weights[opens], before[opens])
    assert 0 < rows.weights[opens].mean() < 1
    assert not rows.weights[rows.segments == 0].any()


def test_rows_go_on_where_they_stood(made):
    whole, _ = batches(made, 4)
    first, state = batches(made, 2)
    second, _ = batches(made, 2, json.loads(json.dumps(state)))
    for one, other in zip(whole, first + second, strict=True):
        for part, twin in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, twin)


def test_no_two_batches_are_the_same(made):
    found = [rows.tokens.tobytes() for rows in batches(made, 3)[0]]
    for number in range(2):
        found += [rows.tokens.tobytes() for rows in batches(made, 3, share=(number, 2))[0]]
    # Two shares read in turns what one reads alone.
    assert len(set(found)) == 6


def test_no_trajectory_is_shorter():
    world, words = make_world(WorldConfig(entities=400, sizes=10)), Vocabulary(10)
    shortest = trajectories(world, words, 50, seed=0, think=0, tasks=(Task("chain", 1),))
    assert min(map(len, shortest)) >= SHORTEST
