"""Searches: constraint, budget, front, replay; and better than drawing."""

import json

import pytest

from loomax.nas.evolve.candidate import front
from loomax.nas.evolve.config import EvolveConfig
from loomax.nas.evolve.constraint import make_constraint
from loomax.nas.evolve.exam import Exam
from loomax.nas.evolve.journal import Journal
from loomax.nas.evolve.plot import draw_search
from loomax.nas.evolve.search import conclude, evolve, random_search
from loomax.nas.oracle.predict import Predictor
from loomax.nas.sample.graph import distinct_blocks
from loomax.nas.space.count import macs
from loomax.nas.space.vit import vit_space

CONFIG = EvolveConfig(candidates=40, population=12, batch=5, seed=3)


@pytest.fixture
def constraint(latency, every_arch):
    values = sorted(latency(arch) for arch in every_arch(latency.space))
    return make_constraint(latency, values[len(values) // 2], values[len(values) // 20])


def journaled(path, constraint, accuracy, config=CONFIG):
    with Journal(path, {"seed": config.seed}) as journal:
        exam = Exam(accuracy, journal, config.batch)
        return conclude(exam, evolve(constraint, exam, config))


def test_the_budget_and_the_window_are_kept(constraint, judge):
    for search in (evolve, random_search):
        evaluate = judge(constraint.latency.space)
        found = search(constraint, Exam(evaluate), CONFIG)
        assert len(found) == len({candidate.arch for candidate in found}) == 40
        assert len(evaluate.asked) == 40
        for candidate in found:
            assert constraint.holds(candidate.latency)
            assert candidate.latency == constraint.latency(candidate.arch)
            assert candidate.score == evaluate.score(candidate.arch)


def test_the_front_has_no_better_networks_beside_it(constraint, judge):
    found = evolve(constraint, Exam(judge(constraint.latency.space)), CONFIG)
    best = front(found)
    expected = [
        c
        for c in found
        if not any(
            o.latency <= c.latency
            and o.score >= c.score
            and (o.latency, o.score) != (c.latency, c.score)
            for o in found
        )
    ]
    assert best == sorted(expected, key=lambda candidate: candidate.latency)


def test_evolution_finds_more_than_drawing():
    space = vit_space((64,), (12,), (2, 4), (2, 4), resolutions=(32,), layerwise=True)
    latency = Predictor(space, {block: macs(block) for block in distinct_blocks(space)}, 0, 1)
    constraint = make_constraint(latency, 1e9)

    def accuracy(archs, split):
        """The share of layers with few heads and a wide MLP: one in four by chance."""
        layers = [arch.stages[0] for arch in archs]
        pairs = [list(zip(stage.heads, stage.expand, strict=True)) for stage in layers]
        return [row.count((2, 4)) / len(row) for row in pairs]

    config = EvolveConfig(candidates=128, population=16)
    best = [
        max(candidate.score for candidate in search(constraint, Exam(accuracy), config))
        for search in (evolve, random_search)
    ]
    assert best[0] > best[1] + 0.1


def test_a_small_window_ends_early(latency, every_arch, judge):
    values = sorted(latency(arch) for arch in every_arch(latency.space))
    narrow = make_constraint(latency, values[9])
    found = evolve(narrow, Exam(judge(latency.space)), CONFIG)
    assert {candidate.latency for candidate in found} <= set(values[:10])
    assert len(found) == sum(narrow.holds(value) for value in values)


def test_a_search_killed_at_any_line_goes_on_the_same(constraint, judge, tmp_path):
    space = constraint.latency.space
    whole = tmp_path / "whole.jsonl"
    expected = journaled(whole, constraint, judge(space))
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) > 42
    for number in (0, 1, 2, 8, 13, 41, len(lines) - 1, len(lines)):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"".join(lines[:number]) + b"".join(lines[number : number + 1])[:9])
        evaluate = judge(space)
        assert journaled(path, constraint, evaluate) == expected
        assert path.read_bytes() == whole.read_bytes()
        assert len(evaluate.asked) == len(lines) - max(number, 1)


def test_an_interrupt_keeps_what_was_evaluated(constraint, judge, tmp_path):
    space, path = constraint.latency.space, tmp_path / "log.jsonl"
    with pytest.raises(KeyboardInterrupt):
        journaled(path, constraint, judge(space, breaks_after=23))
    # Batches of 5 within populations of 12.
    assert len(path.read_text().splitlines()) == 1 + 12 + 10
    expected = journaled(tmp_path / "whole.jsonl", constraint, judge(space))
    assert journaled(path, constraint, judge(space)) == expected


def test_the_winner_is_picked_before_the_test(constraint, judge, tmp_path):
    evaluate = judge(constraint.latency.space)
    found = journaled(tmp_path / "log.jsonl", constraint, evaluate)
    scores = {
        candidate.arch: candidate.score + evaluate.score(candidate.arch, "validation")
        for candidate in found.front
    }
    assert max(scores, key=scores.get) == found.winner.arch
    assert found.test == evaluate.score(found.winner.arch, "test")
    splits = [split for split, _ in evaluate.asked]
    size = len(found.front)
    assert splits == ["search"] * 40 + ["validation"] * size + ["test"]
    assert front(found.candidates) == list(found.front)
    read = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert read[0] == {"seed": 3} and [row["split"] for row in read[1:]] == splits


def test_the_advice_on_a_damaged_line_leads_on(constraint, judge, tmp_path):
    path = tmp_path / "log.jsonl"
    expected = journaled(path, constraint, judge(space := constraint.latency.space))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b"x" + lines[6], *lines[7:]]))
    with pytest.raises(ValueError, match="line 7 is damaged .* keep the 6 lines before it"):
        journaled(path, constraint, judge(space))
    path.write_bytes(b"".join(lines[:6]))
    assert journaled(path, constraint, judge(space)) == expected


def test_journals_of_something_else_are_refused(constraint, judge, tmp_path):
    path, space = tmp_path / "log.jsonl", constraint.latency.space
    journaled(path, constraint, judge(space))
    with pytest.raises(ValueError, match="is of a search with seed 3, not 4: give the same, or"):
        journaled(path, constraint, judge(space), EvolveConfig(seed=4))
    with pytest.raises(ValueError, match="line 14 is not what this search asks for"):
        journaled(path, constraint, judge(space), EvolveConfig(40, population=13, batch=5, seed=3))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{}\n", *lines[2:]]))
    with pytest.raises(ValueError, match="line 2 is damaged"):
        journaled(path, constraint, judge(space))
    path.write_text("no search\n")
    with pytest.raises(ValueError, match="is not the journal of a search"):
        journaled(path, constraint, judge(space))


def test_the_picture(constraint, judge, tmp_path):
    found = journaled(tmp_path / "log.jsonl", constraint, judge(constraint.latency.space))
    drawn = found.candidates[:3]
    path = draw_search(found, tmp_path / "pareto.png", "cpu", constraint.high, "accuracy", drawn)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"candidates": 0}, "candidates is 0: give at least 1"),
        ({"population": 1}, "population is 1: give at least 2"),
        ({"crossover": 1.5}, r"crossover is 1.5: give a share in \[0, 1\]"),
        ({"mutation": 0.0}, "mutation is 0.0: give more than 0 choices"),
    ],
)
def test_settings_are_checked(setting, line):
    with pytest.raises(ValueError, match=line):
        EvolveConfig(**setting)
