"""Observations that are too long: each document keeps its beginning, each reply its form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loomax.agents.search.endpoint.conversation import ConversationCodec, messages_of
from loomax.agents.search.endpoint.table import Table
from loomax.agents.search.grammar.action import ToolCall
from loomax.agents.search.grammar.openai_tools import OpenAIGrammar
from loomax.agents.search.grammar.search_r1 import SearchR1Grammar
from loomax.agents.search.loop.config import LoopConfig
from loomax.agents.search.loop.room import beginning, cut, fit
from loomax.agents.search.retrieval.document import Document, Hit

LONG = [Document(str(n), f"Title {n}", f"start {n} " + "word " * 2000) for n in range(3)]


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("one two", 7, "one two"),
        ("one two", 6, "one"),
        ("one two", 4, "one"),
        ("one two", 3, "one"),
        ("one two", 0, ""),
        ("Bal-den is", 5, ""),
        ("x" * 99, 60, "x" * 60),
        ("ab " + "x" * 99, 60, "ab " + "x" * 57),
        ("\u6f22" * 50, 45, "\u6f22" * 45),
    ],
)
def test_cuts_fall_between_words(text, most, kept):
    assert beginning(text, most) == kept


@given(st.text(max_size=80), st.text(max_size=80), st.integers(0, 100))
def test_what_is_kept_is_the_beginning(title, text, most):
    short = cut(Document("i", title, text), most)
    assert len(short.title) + len(short.text) <= most and short.id == "i"
    assert title.startswith(short.title) and text.startswith(short.text)
    if len(title) + len(text) <= most:
        assert (short.title, short.text) == (title, text)


@given(st.lists(st.integers(0, 300), max_size=4), st.integers(1, 200))
def test_it_fits_and_is_as_large_as_possible(lengths, most):
    """A token a character: what is left would not hold one more word of each document."""
    found = [[Document("", "", "x " * (length // 2)) for length in lengths]]

    def make(shorten):
        shown = shorten(found[0])
        return [0] * (10 * len(shown) + sum(len(each.text) for each in shown))

    tokens = fit(make, found, most)
    full = sum(length // 2 * 2 for length in lengths) + 10 * len(lengths)
    if full <= most:
        assert len(tokens) == full
    elif most >= 40 + 24 * len(lengths):
        assert most - 2 * len(lengths) <= len(tokens) <= most
    else:
        assert tokens is None or len(tokens) <= most


def test_a_chat_model_gets_valid_json_with_the_beginning_of_each_hit():
    codec, grammar = ConversationCodec(Table()), OpenAIGrammar()
    calls = [ToolCall("search", {"query": "q"}, f"c{n}") for n in range(2)]

    def make(shorten):
        return codec.observation([grammar.observe(call, shorten(LONG)) for call in calls])

    tokens = fit(make, [LONG, LONG], 500)
    assert 400 < len(tokens) <= 500
    messages, _ = messages_of(codec._table.pieces(tokens))
    assert [message["tool_call_id"] for message in messages] == ["c0", "c1"]
    for message in messages:
        shown = json.loads(message["content"])["documents"]
        assert [each["title"] for each in shown] == [document.title for document in LONG]
        assert all(each["text"].startswith(f"start {n}") for n, each in enumerate(shown))


def test_tags_keep_the_beginning_of_each_hit(play, plan, words):
    stage = play(plan(["a"]), config=LoopConfig(observation=60),
                 found=lambda query: [Hit(document, 1.0) for document in LONG])  # fmt: skip
    (span,) = [span for span in stage.run.transcript.spans if span.source == "observation"]
    text = "".join(stage.engine.words.pieces(span.tokens))
    assert len(span.tokens) <= 60 and text.strip().endswith("</information>")
    for number in range(3):
        assert f"Title {number}) start {number} word" in text


def test_with_little_room_there_are_fewer_hits():
    grammar = SearchR1Grammar()

    def make(shorten):
        return [ord(letter) for letter in grammar.observe(ToolCall("search", {}), shorten(LONG))]

    text = "".join(map(chr, fit(make, [LONG], 120)))
    assert "Doc 1(Title: Title 0) start 0" in text and "Doc 2" not in text
    assert text.endswith("</information>\n\n")
    # Not even one of them: what says that there is nothing.
    assert fit(make, [LONG], 10) is None


def test_a_text_far_over_the_limit_is_not_counted_whole():
    huge, sizes = [Document("", "", "w " * 10**6)], []

    def make(shorten):
        text = "".join(each.text for each in shorten(huge))
        sizes.append(len(text))
        return [0 for _ in text.split()]

    assert len(fit(make, [huge], 100)) == 100 and max(sizes) <= 6400
