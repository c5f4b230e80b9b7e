"""Sizes, changes and places as text."""

from pathlib import Path

import pytest

from loomax.memory.report.text import (
    bytes_text,
    change_text,
    count_text,
    line_text,
    operation_text,
    percent_text,
    shortened,
    table,
)

GIB = 2**30


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (15 * GIB, "15.0 GiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [(2.6, "+260 %"), (0.01, "+1 %"), (-0.0152, "-1.52 %"), (0.0, "+0 %"), (10, "+1000 %")],
)
def test_percents(change, text):
    assert percent_text(change) == text


def test_changes():
    assert change_text(15 * GIB, 54 * GIB) == "15.0 GiB -> 54.0 GiB (+260 %)"
    assert change_text(0, 64) == "0 B -> 64 B"


def test_a_change_that_rounding_would_hide_is_told_in_bytes():
    assert change_text(GIB, GIB + 4) == "1,073,741,824 B -> 1,073,741,828 B (+0 %)"


def test_counts_name_the_sizes_with_the_most_bytes():
    assert count_text([40 * 2**20] * 26) == "26 x 40.0 MiB"
    assert count_text([10, 1, 1, 1, 7]) == "1 x 10 B + 1 x 7 B + 3 others"
    assert count_text([]) == ""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("/home/me/work/models/lm/stack.py:44", "models/lm/stack.py:44"),
        ("/opt/env/lib/python3.11/site-packages/flax/nnx/nn.py:7", "flax/nnx/nn.py:7"),
        ("/elsewhere/train.py:3", "/elsewhere/train.py:3"),
        ("", ""),
    ],
)
def test_lines_do_not_depend_on_the_machine(line, text):
    assert line_text(line, Path("/home/me/work")) == text


def test_operations_lose_the_outermost_function_and_then_others():
    name = "jit(step)/jvp(attention)/softmax/exp"
    assert operation_text(name) == "jvp(attention)/softmax/exp"
    assert operation_text(name, 16) == ".../softmax/exp"
    assert operation_text(name, 5) == ".../exp"
    assert operation_text("params['w']") == "params['w']"
    assert operation_text("x" * 9, 5) == "x" * 9


def test_shortened_keeps_the_end():
    assert shortened("abcdefgh", 8) == "abcdefgh"
    assert shortened("abcdefghi", 8) == "...efghi"


def test_tables_align():
    assert table([["a", "1"], ["bb", "10"]], left=(0,)) == ["a    1", "bb  10"]
    assert table([], left=()) == []
