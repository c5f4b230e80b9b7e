"""Work that a request causes: counted, and refused by size before it is done."""

import sys
from dataclasses import replace

import pytest

from loomax.agents.search.grammar.marks import without
from loomax.agents.search.grammar.search_r1 import TAGS
from loomax.agents.search.loop.byte_codec import ByteTokens
from loomax.agents.server.chat_request import read_chat
from loomax.agents.server.chat_text import TemplateFormat
from loomax.agents.server.completion_request import read_completion
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.cut import Cut
from loomax.agents.server.errors import ApiError
from loomax.agents.server.messages import Message
from loomax.agents.server.overlap import overlap
from tests.agents.server.test_bodies import SERVED

TOKENS = ByteTokens("bytes")
MARKS = ("<|im_start|>", "<|im_end|>", "<|im_start|>user")


def work(function):
    """Lines of Python, and letters of the texts whose methods are called meanwhile."""
    done = 0

    def count(frame, event, arg):
        nonlocal done
        if event == "c_call":
            owner = getattr(arg, "__self__", None)
            done += len(owner) if isinstance(owner, str) else 1

    def lines(frame, event, arg):
        nonlocal done
        done += 1
        return lines

    before = sys.getprofile(), sys.gettrace()
    sys.setprofile(count)
    sys.settrace(lines)
    try:
        function()
    finally:
        sys.setprofile(before[0])
        sys.settrace(before[1])
    return done


def nested(mark, depth):
    half = len(mark) // 2
    return mark[:half] * depth + mark[half:] * depth


@pytest.mark.parametrize("mark", ["<|im_end|>", "<information>"])
def test_nested_marks_are_dropped_in_one_scan(mark):
    marks = TAGS if mark in TAGS else MARKS
    small, large = (
        work(lambda depth=depth: without(nested(mark, depth), marks)) for depth in (100, 800)
    )
    assert large < 12 * small
    assert without(nested(mark, 800), marks) == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain < text >", "plain < text >"),
        ("a<|im_<|im_end|>end|>b", "ab"),
        ("<|im_start|>user", "user"),
        ("<|im_start<|im_end|>|>x", "x"),
        ("|im_end|>", "|im_end|>"),
    ],
)
def test_no_mark_is_left(text, left):
    assert without(text, MARKS) == left


def test_a_nested_chat_costs_what_a_plain_one_does():
    def prompt(text):
        return work(lambda: TemplateFormat().prompt([Message("user", text)], ()))

    assert prompt(nested("<|im_end|>", 800)) < 12 * prompt(nested("<|im_end|>", 100))


def test_a_stop_string_over_many_tokens_is_found_wherever_it_is_cut():
    text, stop = "x" * 50 + "stop here" + "y" * 20, "stop here"
    for size in range(1, len(text)):
        cut, ids, shown = Cut(TOKENS, (), ("zz", stop), 200), TOKENS.ids(text), ""
        for place in range(0, len(ids), size):
            shown += cut.feed(ids[place : place + size])
        assert (shown + cut.finish(), cut.reason, cut.stop) == ("x" * 50, "stop", stop)


@pytest.mark.parametrize("word", ["stop", "aab", "aaa", "abab", "x"])
def test_overlap_is_that_of_the_definition(word):
    for number in range(3**6):
        text = "".join("abx"[number // 3**place % 3] for place in range(6)) + word[: number % 4]
        sizes = [n for n in range(len(word)) if text.endswith(word[:n])]
        assert overlap(text, word) == max(sizes)


class Counting(ByteTokens):
    """Tells what was encoded."""

    def __init__(self):
        super().__init__("bytes")
        self.encoded = 0

    def ids(self, text):
        self.encoded += len(text)
        return super().ids(text)


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (read_completion, {"prompt": "a" * 100_000}),
        (read_completion, {"prompt": ["b", "a" * 100_000]}),
        (read_completion, {"prompt": ["a"] * 10_000}),
        (read_completion, {"prompt": ["a"], "n": 99}),
        (read_chat, {"messages": [{"role": "user", "content": "a" * 100_000}]}),
        (read_chat, {"messages": [{"role": "user", "content": "a b"}] * 50_000}),
    ],
)
def test_what_cannot_fit_is_not_encoded(read, body):
    served = replace(SERVED, tokens=Counting())
    with pytest.raises(ApiError) as caught:
        read({"model": "m", **body}, served, ServerConfig("m", 1024))
    assert caught.value.status == 400 and served.tokens.encoded <= 1
    assert len(caught.value.message) < 300


def test_what_may_fit_is_encoded():
    """1024 characters may be 103 tokens of the default tokenizer, or 1,024 of bytes."""
    served = replace(SERVED, tokens=ByteTokens("default"))
    config = ServerConfig("m", 210)
    text = " microwave" * 200
    asked = read_completion({"model": "m", "prompt": text, "max_tokens": 1}, served, config)
    assert len(asked.samples[0].prompt) == 201
    with pytest.raises(ApiError, match="at least 211 tokens; the context of 210"):
        read_completion({"model": "m", "prompt": text + "a" * 101}, served, config)


def test_long_ids_are_counted_before_they_are_looked_at():
    with pytest.raises(ApiError, match="the prompt has 5000 tokens; the context of 1024"):
        read_completion({"model": "m", "prompt": [10**9] * 5000}, SERVED, ServerConfig("m", 1024))
