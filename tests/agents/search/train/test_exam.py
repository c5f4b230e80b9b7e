"""Marks, and a searcher that is opened as `loomax search ask` opens it."""

import asyncio

import pytest

from loomax.agents.search.grammar.transcript import Transcript
from loomax.agents.search.loop.agent import Run
from loomax.agents.search.train.exam import answer_all, mark, name_of, world_index
from loomax.agents.search.world.config import CHAINS, LARGEST
from loomax.agents.search.world.questions import draw_questions, text_of
from loomax.agents.search.world.solve import solve
from loomax.agents.search.world.world import make_world
from loomax.agents.server.brain import trained_brain


@pytest.fixture(scope="module")
def world(debug):
    return make_world(debug.world)


def run(answer, steps=2):
    return Run(answer, "answered" if answer else "steps", "", steps, 1.0, Transcript(), ())


def test_marks_are_shares_by_task(world):
    questions = draw_questions(world, 4, split="held_out", tasks=CHAINS[:1])
    questions += draw_questions(world, 2, split="held_out", tasks=LARGEST[1:])
    gold = [world.name(solve(world, question).answer.entity) for question in questions]
    runs = [run(gold[0]), run(gold[1].upper()), run("Bal-bas"), run(None), run(gold[4], 5)]
    marks = mark(world, questions, [*runs, run("nothing", 5)])
    assert marks.questions == 6 and marks.exact_match == pytest.approx(3 / 6)
    assert marks.by_task == {"chain-2": 0.5, "largest-3": 0.5}
    assert marks.unanswered == pytest.approx(1 / 6)
    assert marks.searches == pytest.approx((4 * 2 + 2 * 5) / 6)


def test_questions_have_the_names_of_their_tasks(world):
    for task in (*CHAINS, *LARGEST):
        (question,) = draw_questions(world, 1, split="train", tasks=(task,))
        assert name_of(question) == task.name


def test_the_index_finds_every_entity_first(world):
    index = world_index(world)
    for entity in range(0, world.config.entities, 7):
        assert index.search(world.name(entity), 1)[0].document.id == str(entity)


def test_a_run_answers_in_the_words_of_its_world(finished, world):
    questions = draw_questions(world, 2, split="held_out")
    asked = [text_of(world, question) for question in questions]

    async def main():
        async with trained_brain(finished[0], slots=2) as brain:
            runs = await answer_all(brain, world_index(world), asked, at_once=2)
            strange = await answer_all(brain, world_index(world), ["who is it ?"], at_once=1)
            return runs, strange, brain.engine.load()

    runs, (strange,), load = asyncio.run(main())
    assert all(run.transcript.spans[0].source == "prompt" for run in runs)
    # Six steps of training teach nothing, but whatever is written comes to an end.
    assert {run.end for run in runs} <= {"answered", "faults", "steps", "context"}
    assert strange.end == "question" and "'who' is not in the vocabulary" in strange.detail
    assert load.running == load.waiting == 0
