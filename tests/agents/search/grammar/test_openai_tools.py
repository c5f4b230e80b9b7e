"""Streamed tool calls: put together from any cuts, checked, and answered."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomax.agents.search.grammar.action import Answer, Malformed, Reasoning, ToolCall
from loomax.agents.search.grammar.grammar import Grammar, Parser
from loomax.agents.search.grammar.openai_tools import SEARCH, OpenAIGrammar
from loomax.agents.search.retrieval.document import Document

FETCH = {
    "type": "function",
    "function": {
        "name": "fetch",
        "parameters": {
            "type": "object",
            "properties": {"page": {"type": "integer"}, "share": {"type": "number"}},
            "required": ["page"],
        },
    },
}
GRAMMAR = OpenAIGrammar([SEARCH, FETCH])


def chunk(finish=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def part(index=0, arguments=None, **given):
    function = {"arguments": arguments} if arguments is not None else {}
    if "name" in given:
        function["name"] = given.pop("name")
    return {"index": index, "function": function, **given}


def parse(*chunks):
    parser = GRAMMAR.parser()
    events = [event for each in chunks for event in parser.feed(each)]
    return events + parser.finish()


def call(arguments, name="search", finish="tool_calls"):
    """The only event of a turn with one call."""
    first = chunk(tool_calls=[part(id="c1", name=name, arguments=arguments)])
    (event,) = parse(first, chunk(finish))
    return event


def test_it_is_a_grammar():
    assert isinstance(GRAMMAR, Grammar) and isinstance(GRAMMAR.parser(), Parser)


@given(st.lists(st.integers(0, 30), max_size=6))
def test_arguments_come_in_any_pieces(cuts):
    text = '{"query": "caf\u00e9 \\"x\\""}'
    ends = sorted(cuts)
    pieces = [text[a:b] for a, b in zip([0, *ends], [*ends, None], strict=True)]
    chunks = [chunk(tool_calls=[part(id="c1", name="search")])]
    chunks += [chunk(tool_calls=[part(arguments=piece)]) for piece in pieces]
    assert parse(*chunks, chunk("tool_calls")) == [
        ToolCall("search", {"query": 'caf\u00e9 "x"'}, "c1")
    ]


def test_a_call_is_known_when_the_next_one_begins():
    parser = GRAMMAR.parser()
    assert parser.feed(chunk(reasoning_content="hm ")) == []
    assert (
        parser.feed(chunk(tool_calls=[part(id="a", name="fetch", arguments='{"page": 1}')])) == []
    )
    second = part(1, id="b", name="search", arguments='{"query": "q"}')
    first = [Reasoning("hm"), ToolCall("fetch", {"page": 1}, "a")]
    assert parser.feed(chunk(tool_calls=[second])) == first
    assert parser.feed(chunk("tool_calls")) == [ToolCall("search", {"query": "q"}, "b")]
    assert parser.done and parser.finish() == []


def test_content_is_an_answer_only_without_calls():
    assert parse(chunk(content="It is "), chunk(content="42."), chunk("stop")) == [
        Answer("It is 42.")
    ]
    asked = chunk(
        content="Let me look.", tool_calls=[part(id="c", name="search", arguments='{"query": "q"}')]
    )
    assert parse(asked, chunk("stop")) == [ToolCall("search", {"query": "q"}, "c")]
    # The usage comes last, without a choice.
    assert parse(chunk(content="a"), chunk("stop"), {"choices": [], "usage": {}}) == [Answer("a")]


@pytest.mark.parametrize(
    ("arguments", "name", "fault", "detail"),
    [
        ('{"query": ', "search", "bad_json", "the arguments of search"),
        ('["q"]', "search", "bad_json", "must be an object"),
        ("{}", "search", "missing_argument", "search needs 'query'"),
        ("", "search", "missing_argument", "search needs 'query'"),
        ('{"query": 3}', "search", "wrong_argument", "'query' is 3; it must be of type string"),
        ('{"page": true}', "fetch", "wrong_argument", "must be of type integer"),
        ('{"page": 1, "share": "x"}', "fetch", "wrong_argument", "must be of type number"),
        ('{"query": "q"}', "find", "unknown_tool", "no tool 'find'; there is search, fetch"),
    ],
)
def test_faults_of_a_call_keep_its_id(arguments, name, fault, detail):
    found = call(arguments, name)
    assert isinstance(found, Malformed) and (found.fault, found.id) == (fault, "c1")
    assert detail in found.detail


def test_numbers_may_be_integers_and_more_arguments_may_come():
    assert call('{"page": 1, "share": 2, "x": 0}', "fetch").arguments == {
        "page": 1,
        "share": 2,
        "x": 0,
    }


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "data",
        {},
        {"choices": 3},
        {"choices": ["x"]},
        chunk(content=3),
        chunk(tool_calls=[{}]),
        chunk(tool_calls=[part(arguments=7)]),
        chunk(tool_calls=[part(arguments="x" * 70_000)]),
    ],
)
def test_a_chunk_that_cannot_be_read_is_a_fault(bad):
    (found,) = parse(bad, chunk("stop"))
    assert isinstance(found, Malformed) and found.fault == "bad_chunk"


def test_turns_that_end_badly():
    assert [e.fault for e in parse(chunk("stop"))] == ["no_action"]
    assert [e.fault for e in parse(chunk(content="It is"), chunk("length"))] == ["cut_off"]
    # The connection was lost.
    assert [e.fault for e in parse(chunk(content="It is"))] == ["cut_off"]
    assert [e.fault for e in parse(chunk(content="x" * 70_000))] == ["too_long"]
    half = chunk(tool_calls=[part(id="c", name="search", arguments='{"query": "q"}')])
    assert [e.fault for e in parse(half, chunk("length"))] == ["cut_off"]


def test_messages_back_to_the_model():
    found = [Document("1", "One", "first")]
    message = GRAMMAR.observe(ToolCall("search", {}, "c1"), found)
    assert (message["role"], message["tool_call_id"]) == ("tool", "c1")
    assert json.loads(message["content"]) == {"documents": [{"title": "One", "text": "first"}]}
    told = GRAMMAR.correct(Malformed("bad_json", "why", "c1"))
    assert told["tool_call_id"] == "c1" and json.loads(told["content"])["error"] == "bad_json"
    assert GRAMMAR.correct(Malformed("no_action", "why"))["role"] == "user"
