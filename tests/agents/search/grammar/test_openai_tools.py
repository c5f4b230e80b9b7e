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


def test_calls_are_known_when_the_completion_ends():
    parser = GRAMMAR.parser()
    assert parser.feed(chunk(reasoning_content="hm ")) == []
    first = part(id="a", name="fetch", arguments='{"page": ')
    assert parser.feed(chunk(tool_calls=[first])) == []
    second = part(1, id="b", name="search", arguments='{"query": "q"}')
    assert parser.feed(chunk(tool_calls=[second])) == []
    # Calls may be written in turns.
    assert parser.feed(chunk(tool_calls=[part(0, arguments="1}")])) == []
    found = [Reasoning("hm"), ToolCall("fetch", {"page": 1}, "a"),
             ToolCall("search", {"query": "q"}, "b")]  # fmt: skip
    assert parser.feed(chunk("tool_calls")) == found
    assert parser.done and parser.finish() == []


def test_of_calls_that_are_cut_off_the_last_one_is_lost():
    calls = [part(0, id="a", name="fetch", arguments='{"page": 1}'),
             part(1, id="b", name="fetch", arguments='{"page": 2')]  # fmt: skip
    whole, lost = parse(chunk(tool_calls=calls), chunk("length"))
    assert whole == ToolCall("fetch", {"page": 1}, "a")
    # The fault answers the call: one without a reply would be refused.
    assert (lost.fault, lost.id) == ("cut_off", "b")


DEEP = '{"query": ' * 90 + "1" + "}" * 90


@pytest.mark.parametrize("arguments", [DEEP, "[" * 100_000, '{"a":' * 100_000, "NaN", "1" * 5000])
def test_arguments_that_nobody_could_walk_are_a_fault(arguments):
    text = arguments if len(arguments) < 65_000 else arguments[:65_000]
    found = call(text)
    assert (found.fault, found.id) == ("bad_json", "c1") and len(found.detail) < 300


def test_halves_of_surrogate_pairs_are_joined_or_replaced():
    found = call('{"query": "\\ud83d \\ud83d\\ude00", "\\udc00": ["\\udfff"]}')
    assert found.arguments == {"query": "\ufffd \U0001f600", "\ufffd": ["\ufffd"]}
    # Cut between two chunks, by a server that counts in UTF-16.
    halves = (chunk(content="\ud83d"), chunk(content="\ude00 \ud83d"), chunk("stop"))
    assert parse(*halves) == [Answer("\U0001f600 \ufffd")]


def test_a_fault_quotes_only_the_beginning():
    value = json.dumps({"page": "x" * 60_000})
    for found in (call(value, "fetch"), call("{}", "n" * 60_000)):
        assert isinstance(found, Malformed) and len(found.detail) < 400


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
        chunk(tool_calls=[None]),
        chunk(tool_calls=[part(index="0")]),
        chunk(tool_calls=[part(name="n" * 70_000)]),
        chunk(tool_calls=[part(number, id=f"c{number}") for number in range(100)]),
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
