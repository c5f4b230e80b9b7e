"""Growth beyond the budget, word for word."""

from dataclasses import replace

import pytest

from loomax.memory.report.budget import Entry, Held
from loomax.memory.report.guard import check, improvements

GIB = 2**30
OLD = Entry(
    "moe",
    "tpu:v5e",
    temp_bytes=15 * GIB,
    argument_bytes=8 * GIB,
    output_bytes=8 * GIB,
    alias_bytes=8 * GIB,
    peak_bytes=23 * GIB,
    versions={"jax": "0.9.0", "jaxlib": "0.9.0"},
    program_hash="lowered:1",
    held=(Held("moe.py:10", "mul", 3, 15 * GIB),),
)
BUDGET = {OLD.key: OLD}


def grown(temp_bytes, **change):
    """The entry with other temporaries."""
    more = temp_bytes - OLD.temp_bytes
    return replace(OLD, temp_bytes=temp_bytes, peak_bytes=OLD.peak_bytes + more, **change)


def test_the_same_program_is_fine():
    assert check(OLD, BUDGET) == []
    assert improvements(OLD, BUDGET) == []


def test_temporaries_that_grow():
    held = (Held("moe.py:30", "dot_general", 26, 36 * GIB), Held("moe.py:12", "mul", 3, 18 * GIB))
    versions = {"jax": "0.9.0", "jaxlib": "0.10.2"}
    assert check(grown(54 * GIB, held=held, versions=versions), BUDGET) == [
        "moe on tpu:v5e: temporaries 15.0 GiB -> 54.0 GiB (+260 %), allowed +1 %; "
        "compiler jaxlib 0.9.0 -> 0.10.2, same program; largest new buffers: "
        "36.0 GiB more in 26 of moe.py:30 dot_general, 3.0 GiB more in 3 of moe.py:12 mul"
    ]


def test_another_program_by_the_same_compiler():
    (text,) = check(grown(20 * GIB, program_hash="lowered:2"), BUDGET)
    assert text.endswith("allowed +1 %; same compiler, another program")
    (text,) = check(grown(20 * GIB, program_hash="buffers:2"), BUDGET)
    assert text.endswith("allowed +1 %; same compiler")


def test_growth_within_the_tolerance_is_allowed():
    assert check(grown(15 * GIB + 15 * GIB // 100), BUDGET) == []
    assert len(check(grown(15 * GIB + 15 * GIB // 100 + 64), BUDGET)) == 1
    assert check(grown(16 * GIB), BUDGET, tolerance=0.07) == []
    assert len(check(grown(15 * GIB + 1), BUDGET, tolerance=0)) == 1


def test_a_lost_donation_is_found():
    new = replace(OLD, alias_bytes=0, peak_bytes=31 * GIB)
    assert check(new, BUDGET) == [
        "moe on tpu:v5e: arguments and outputs 8.0 GiB -> 16.0 GiB (+100 %), allowed +1 %; "
        "same compiler, same program; donated 8.0 GiB -> 0 B (-100 %)"
    ]


def test_grown_constants_are_found():
    (text,) = check(replace(OLD, peak_bytes=24 * GIB), BUDGET)
    assert text.endswith("same program; constants 0 B -> 1.0 GiB")


def test_a_small_output_more_is_not_worth_a_word():
    assert check(replace(OLD, output_bytes=8 * GIB + 4, peak_bytes=23 * GIB + 4), BUDGET) == []


def test_improvements_are_hints():
    new = grown(10 * GIB)
    assert check(new, BUDGET) == []
    assert improvements(new, BUDGET) == [
        "moe on tpu:v5e: temporaries 15.0 GiB -> 10.0 GiB (-33 %): lower the budget to keep this"
    ]
    assert improvements(grown(15 * GIB - 64), BUDGET) == []


def test_what_the_budget_does_not_know_is_told():
    other = replace(OLD, target="cpu")
    assert check(other, BUDGET) == [
        "moe on cpu: the budget has moe on tpu:v5e only: add it if that is meant"
    ]
    assert check(other, {}) == ["moe on cpu: the budget has no moe: add it if that is meant"]
    assert improvements(other, BUDGET) == []


@pytest.mark.parametrize("tolerance", [-0.01, float("nan"), float("inf")])
def test_a_bad_tolerance_is_refused(tolerance):
    for function in (check, improvements):
        with pytest.raises(ValueError, match="tolerance is .*: give 0 or more"):
            function(OLD, BUDGET, tolerance)
