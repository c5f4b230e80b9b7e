"""The page of text."""

from dataclasses import replace

import pytest

from loomax.memory.report.levers import Lever
from loomax.memory.report.summary import summary, unlisted_bytes


def test_text(small):
    levers = [Lever("as it is", small.peak, 100.0), Lever("remat", 13 * 2**20, 130.0, 0.5, True)]
    assert summary(small, levers) == [
        "jit_step: peak 16.0 MiB = temporaries 4.0 MiB + donated 10.0 MiB + outputs 2.0 MiB",
        "temporaries: 3 buffers in 1.0000 of the lower bound (4.0 MiB)",
        "fullest at steps 1 to 3 of 4: 4.0 MiB in 2 buffers",
        "",
        "held at that time, by source line",
        "3.0 MiB  75.0%  1 x 3.0 MiB  model.py:10  jvp(attention)/dot_general",
        "1.0 MiB  25.0%  1 x 1.0 MiB  model.py:20  jvp(mlp)/add",
        "",
        "largest buffers held at that time",
        "3.0 MiB  75.0%  1 x 3.0 MiB  a  steps 0 to 2  model.py:10  jvp(attention)/dot_general",
        "1.0 MiB  25.0%  1 x 1.0 MiB  b  steps 1 to 3  model.py:20  jvp(mlp)/add",
        "",
        "held for the whole call",
        "10.0 MiB  1  donated  params['w'] 10.0 MiB",
        " 2.0 MiB  1  outputs  q 2.0 MiB",
        "",
        "what each form gives",
        "form          peak  against now  FLOPs  seconds  fits",
        "remat     13.0 MiB     -3.0 MiB  +30 %      0.5   yes",
        "as it is  16.0 MiB          now   +0 %  unknown",
    ]


def test_equal_layers_are_one_row(traced):
    text = "\n".join(summary(traced["step"][1]))
    assert " x 8.0 KiB " in text and "tests/memory/report/programs.py:" in text
    rows = summary(traced["step"][1], most=1)
    assert any("other lines" in row for row in rows)


def test_a_program_without_temporaries(bare):
    assert summary(bare) == [
        "jit_step: peak 4 B = temporaries 0 B + parameters 4 B",
        "",
        "held for the whole call",
        "4 B  1  parameters  p 4 B",
    ]


def test_what_is_left_out_is_told(small):
    lines = summary(replace(small, left_out=("x", "y")))
    assert lines[3] == "left out, since XLA gives no lifetime: 2 buffers"


def test_bytes_that_no_buffer_uses_are_told(small, traced):
    reserved = replace(small, heap_bytes=6 * 2**20)
    assert unlisted_bytes(reserved) == 2 * 2**20
    assert summary(reserved)[3] == "2.0 MiB of the temporaries' heap hold no listed buffer"
    moved = replace(small, offsets={"a": 2**20, "c": 0, "b": 4 * 2**20}, heap_bytes=6 * 2**20)
    assert unlisted_bytes(moved) == 2**20
    for _, program in traced.values():
        assert unlisted_bytes(program) < 0.01 * program.heap_bytes


def test_rows_are_checked(small):
    with pytest.raises(ValueError, match="most is 0: give at least 1 row"):
        summary(small, most=0)
