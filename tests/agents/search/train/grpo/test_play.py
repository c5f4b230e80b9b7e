"""Runs as rollouts: rows, masks, rewards."""

from dataclasses import replace

import numpy as np
import pytest

from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.loop.agent import Run
from loomax.agents.search.trace.events import Event
from loomax.agents.search.train.grpo.play import check_ends, game, reward_of, rows_of


def run(end="answered", faults=0, written=(7, 8), steps=1):
    transcript = Transcript().add((1, 5), "prompt").add(written, "model")
    transcript = transcript.add((9, 9, 9), "observation").add((6,), "model")
    events = (Event(0.0, "", 0, "fault"),) * faults
    return Run("x" if end == "answered" else None, end, "", steps, 1.0, transcript, events)


@pytest.mark.parametrize(
    ("made", "hit", "reward"),
    [
        (run(), True, 1.0),
        (run(faults=1), True, 0.9),
        (run(), False, 0.1),
        (run(faults=1), False, 0.0),
        (run("faults"), False, 0.0),
        (run("steps"), False, 0.0),
    ],
)
def test_a_reward_is_the_answers_and_a_little_the_forms(made, hit, reward):
    assert reward_of(made, hit, 0.1) == pytest.approx(reward)
    assert reward_of(made, hit, 0.0) == float(hit)


def test_rows_hold_what_was_written():
    rollouts = rows_of([run(), run(written=(7,) * 150)], np.array([1.0, 0.0]))
    assert rollouts.tokens.shape == (2, 257) == rollouts.written.shape
    assert rollouts.tokens[0, :9].tolist() == [1, 5, 7, 8, 9, 9, 9, 6, 0]
    assert np.flatnonzero(rollouts.written[0]).tolist() == [2, 3, 7]
    assert rollouts.written[1].sum() == 151 and not rollouts.tokens[0, 8:].any()
    short = rows_of([run(written=(7,) * 123)], np.zeros(1))
    assert short.tokens.shape == (1, 129)


def test_a_game_says_how_it_went():
    runs = [run(), run(faults=1), run(), run("steps", steps=5)]
    found = game(runs, [True, False, False, False], 2, 0.1)
    np.testing.assert_allclose(found.rollouts.reward, [1.0, 0.0, 0.1, 0.0])
    assert found.tokens == 12
    wanted = {"reward": 0.275, "exact_match": 0.25, "well_formed": 0.5, "searches": 2.0}
    assert found.metrics == pytest.approx(wanted | {"written_tokens": 3.0, "mixed_groups": 1.0})
    alike = game([run(), run()], [True, True], 2, 0.1)
    assert alike.metrics["mixed_groups"] == 0


def test_a_run_that_the_machine_ended_is_no_rollout():
    check_ends([run(), run("steps"), run("faults"), run("context")])
    for end in ("engine", "error", "deadline", "question"):
        with pytest.raises(RuntimeError, match=f"a run of the agent ended by {end}: why"):
            check_ends([run(), replace(run(end), detail="why")])
