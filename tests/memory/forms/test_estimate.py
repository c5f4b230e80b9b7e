"""Rows a second at the peak of a device, by hand."""

from dataclasses import replace

import pytest

from loomax.memory.forms.estimate import estimate_lines, rows_per_s
from loomax.memory.forms.form import Form
from loomax.memory.forms.judge import Verdict
from loomax.memory.forms.levers import DEFAULT
from loomax.memory.forms.search import Try
from loomax.runtime.target import parse_target

ROWS = 64


def tried(remat, flops, batch=None, error=""):
    verdict = Verdict(1, 1, 1, 1, 0, flops, flops, "program", 0.0, error)
    return Try(Form(remat), DEFAULT, batch, verdict, flops)


@pytest.fixture
def v5e():
    return replace(parse_target("cpu"), name="tpu:v5e")


def test_rows_a_second_are_the_peak_over_the_operations_of_a_row(v5e):
    assert rows_per_s(tried("none", 197e12), ROWS, v5e) == pytest.approx(ROWS)
    assert rows_per_s(tried("none", 4 * 197e12, 128), ROWS, v5e) == pytest.approx(32)


def test_what_is_not_known_is_not_estimated(v5e):
    assert rows_per_s(tried("none", 1.0), ROWS, parse_target("cpu")) is None
    assert rows_per_s(tried("none", 1.0, error="out of memory"), ROWS, v5e) is None


def test_lines_compare_with_the_form_as_given(v5e):
    given, best = tried("full", 4e12), tried("none", 3e12)
    lines = estimate_lines(best, best, given, ROWS, v5e)
    assert len(lines) == 2
    assert lines[0].endswith(f"{ROWS * 197 / 4:.3g} rows/s a device")
    assert "none" in lines[1] and "1.333 of it as given" in lines[1]
    assert estimate_lines(best, None, None, ROWS, v5e) == [
        f"estimate, products at peak: remat none: {ROWS * 197 / 3:.3g} rows/s a device"
    ]
