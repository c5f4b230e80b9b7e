"""Calls from the parts of many servers' streams: what belongs together, and unique ids."""

import pytest

from loomax.agents.search.grammar.call_parts import CallParts


def part(name=None, arguments=None, **given):
    held = {"name": name, "arguments": arguments}
    return {"function": {k: v for k, v in held.items() if v is not None}, **given}


def put(*parts):
    """(id, name, arguments) of the calls."""
    made = CallParts()
    for each in parts:
        made.add(each)
    return [(call.id, call.name, call.arguments) for call in made.calls]


TWO = [("a", "f", '{"x": 1}'), ("b", "g", '{"y": 2}')]


@pytest.mark.parametrize(
    "parts",
    [
        # OpenAI: an index in each part, id and name in the first.
        [part("f", '{"x":', index=0, id="a"), part(None, " 1}", index=0),
         part("g", "", index=1, id="b"), part(None, '{"y": 2}', index=1)],
        # Written in turns.
        [part("f", '{"x":', index=0, id="a"), part("g", '{"y"', index=1, id="b"),
         part(None, " 1}", index=0), part(None, ": 2}", index=1)],
        # No index at all.
        [part("f", '{"x":', id="a"), part(None, " 1}"), part("g", '{"y": 2}', id="b")],
        # Every call has index 0.
        [part("f", '{"x": 1}', index=0, id="a"), part("g", '{"y":', index=0, id="b"),
         part(None, " 2}", index=0)],
        # Id and name in every part.
        [part("f", '{"x":', index=0, id="a"), part("f", " 1}", index=0, id="a"),
         part("g", '{"y":', index=1, id="b"), part("g", " 2}", index=1, id="b")],
        # The id comes late.
        [part("f", '{"x":', index=0), part(None, " 1}", index=0, id="a"),
         part("g", '{"y": 2}', index=1, id="b")],
    ],
)  # fmt: skip
def test_two_calls(parts):
    assert put(*parts) == TWO


@pytest.mark.parametrize("given", [{}, {"index": 0}, {"index": 0, "id": ""}, {"id": None}])
def test_calls_without_ids_get_some(given):
    parts = [part("f", '{"x": 1}', **given), part("g", '{"y": 2}', **given)]
    assert put(*parts) == [("call_0", "f", '{"x": 1}'), ("call_1", "g", '{"y": 2}')]


def test_ids_that_are_given_twice_are_made_unique():
    calls = put(part("f", "{}", index=0, id="c"), part("f", "{}", index=1, id="c"),
                part("f", "{}", index=2, id="c_1"), part("f", "{}", index=3))  # fmt: skip
    assert len({number for number, *_ in calls}) == 4 and calls[0][0] == "c"
    assert [name for _, name, _ in calls] == ["f"] * 4


@pytest.mark.parametrize(
    "bad",
    [None, 3, [], part(index="0"), part(index=True), part(id=5), part(name=5), part(arguments={}),
     {"function": "f"}],
)  # fmt: skip
def test_parts_of_another_form_are_refused(bad):
    with pytest.raises((TypeError, AttributeError)):
        CallParts().add(bad)
