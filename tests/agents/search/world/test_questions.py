"""Questions and their gold solutions, checked by reading the documents alone."""

import re
from collections import Counter

import pytest

from loomax.agents.search.world.config import MIXTURE, RELATIONS, Task
from loomax.agents.search.world.documents import documents
from loomax.agents.search.world.questions import Question, draw_questions, text_of
from loomax.agents.search.world.solve import solve


@pytest.fixture(scope="module")
def library(world):
    """Title to text, as a reader has it."""
    return {found.title: found.text for found in documents(world)}


def field(text, name):
    return re.search(rf"\b{name} (\S+)", text)[1]


def members(text):
    return re.search(r"members (.+) size", text)[1].split()


def read_answer(question, library):
    """Answers a question in words by looking things up, and tells what was looked up."""
    path, about = question.removesuffix(" ?").rsplit(" of ", 1)
    looked, relations = [], path.split(" of ")
    if relations[-1] == "largest member":
        relations.pop()
        looked.append(about)
        parts = members(library[about])
        looked += parts
        about = max(parts, key=lambda name: int(field(library[name], "size")))
    for relation in reversed(relations):
        if about not in looked:
            looked.append(about)
        about = field(library[about], relation)
    return looked, about


@pytest.mark.parametrize("task", [*MIXTURE, Task("largest", 1, 3)], ids=lambda task: task.name)
def test_the_solution_is_what_the_documents_say(world, library, task):
    for question in draw_questions(world, 30, split="train", tasks=[task]):
        solution = solve(world, question)
        looked, answer = read_answer(text_of(world, question), library)
        assert world.name(solution.answer.entity) == answer
        searched = [world.name(step.entity) for step in solution.searches]
        # A path may come by an entity twice, and then it is searched for again.
        assert list(dict.fromkeys(searched)) == looked
        assert len(searched) == task.relations + (task.members if task.members else 0)


def test_reasoning_names_what_is_searched_for_next(world):
    for question in draw_questions(world, 30, split="train"):
        solution = solve(world, question)
        for step in (*solution.searches, solution.answer):
            names = re.findall(r"[A-Z]\w+-\w+", step.reasoning)
            assert names[-1] == world.name(step.entity)


def test_the_running_maximum_is_right(world):
    task = Task("largest", 2, 3)
    for question in draw_questions(world, 40, split="train", tasks=[task]):
        steps = solve(world, question).searches
        sizes = [int(world.sizes[member]) for member in world.members_of(question.start)]
        written = [re.search(r"largest (\S+) (\d+)", step.reasoning) for step in steps[2:]]
        assert [int(found[2]) for found in written] == [max(sizes[:n]) for n in (1, 2, 3)]
        compared = [re.search(r"(\d+) (\d+) (more|less)", step.reasoning) for step in steps[3:]]
        for number, found in enumerate(compared, start=1):
            old, new = max(sizes[:number]), sizes[number]
            assert (int(found[1]), int(found[2])) == (old, new)
            assert found[3] == ("more" if new > old else "less")


def test_splits_share_no_question(world):
    sides = [draw_questions(world, 3000, split=split) for split in ("train", "held_out")]
    starts = [set(question.start for question in side) for side in sides]
    assert not starts[0] & starts[1]
    assert starts[1] <= set(world.starts("held_out").tolist())


def test_kinds_come_in_their_shares(world):
    tasks = [Task("chain", 2, share=3.0), Task("largest", 2, 2, share=1.0)]
    drawn = Counter(q.kind for q in draw_questions(world, 4000, split="train", tasks=tasks))
    assert drawn["chain"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_all_relations_are_asked_for(world):
    drawn = draw_questions(world, 300, split="train")
    assert {r for question in drawn for r in question.relations} == set(range(len(RELATIONS)))


def test_the_seed_decides(world):
    one, again, other = (draw_questions(world, 50, split="train", seed=s) for s in (1, 1, 2))
    assert one == again != other


def test_questions_that_cannot_be(world):
    with pytest.raises(ValueError, match="0 questions of 5 tasks"):
        draw_questions(world, 0, split="train")
    with pytest.raises(ValueError, match="split is 'x'"):
        draw_questions(world, 1, split="x")
    two = next(e for e in range(100) if len(world.members_of(e)) == 2)
    with pytest.raises(ValueError, match="has 2 members, not 3"):
        solve(world, Question("largest", two, (0,), 3))


def test_a_question_in_words(world):
    name = world.name(5)
    assert text_of(world, Question("chain", 5, (0, 2))) == f"rival of capital of {name} ?"
    asked = Question("largest", 5, (1, 0), 2)
    assert text_of(world, asked) == f"capital of founder of largest member of {name} ?"
