"""What each form gives."""

import pytest

from loomax.memory.report.levers import HEADER, Lever, lever_lines, lever_rows

GIB = 2**30


def test_rows_are_ordered_by_peak_and_compared_with_the_first():
    levers = [
        Lever("now", 16 * GIB, 2e12, 1.25, False),
        Lever("bigger", 17 * GIB, 1.9e12, None, False),
        Lever("remat", 10 * GIB, 2.6e12, 1.5, True),
        Lever("same", 16 * GIB),
    ]
    assert lever_rows(levers) == [
        ("remat", "10.0 GiB", "-6.0 GiB", "+30 %", "1.5", "yes"),
        ("now", "16.0 GiB", "now", "+0 %", "1.25", "no"),
        ("same", "16.0 GiB", "0 B", "unknown", "unknown", ""),
        ("bigger", "17.0 GiB", "+1.0 GiB", "-5 %", "unknown", "no"),
    ]
    assert len(lever_lines(levers)) == 5
    assert lever_lines(levers)[0].split()[0] == HEADER[0]


def test_flops_of_an_unknown_form_are_not_compared():
    (_, other) = lever_rows([Lever("now", 1), Lever("other", 2, flops=5.0)])
    assert other[3] == "unknown"


def test_no_forms_no_table():
    assert lever_lines([]) == [] and lever_rows([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 1), "a lever has no name"),
        (("a", -1), "a: peak_bytes is -1: give 0 or more"),
        (("a", 1, float("nan")), "a: flops is nan"),
        (("a", 1, 1.0, float("inf")), "a: seconds is inf"),
    ],
)
def test_bad_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Lever(*arguments)
