"""Every field of every endpoint with any JSON value: an answer or a refusal, never a defect."""

import asyncio
import json

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loomax.agents.search.loop.byte_codec import ByteTokens
from loomax.agents.search.retrieval.build import memory_index
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.retrieval.server import application
from loomax.agents.server.app import make_app
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.gate import Gate
from loomax.agents.server.served import Served
from loomax.models.tokenizer.bpe import BEGIN, END
from tests.agents.server.conftest import PlayedEngine
from tests.agents.server.test_bodies import CHAT, KEYS, NAMES, TEXT, places, put

RETRIEVE = {"queries": ["cube", "red"], "topk": 2, "return_scores": True}
BODIES = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/retrieve": RETRIEVE}
ODD = [10**400, -(10**400), 2**63, 2**31, -1, 0, -0.0, 1e308, 5e-324, float("inf"), float("nan"),
       "\ud800", "a\udc00", "\x00", "\u2028", "\x85", "", "null", [], {}, [[]], [[[[1]]]],
       {"\ud800": 1}, {"type": "\ud800"}, True, False, None]  # fmt: skip
LEAVES = st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS | st.text(), x, max_size=3)
)
TOKENS = ByteTokens("bytes")
INDEX = memory_index([Document("a", "Cube", "The cube is red."), Document("b", "", "blue")])


def refuse(name):
    raise ValueError(f"{name} is not JSON")


def strict(text):
    """As clients in other languages read it."""
    value = json.loads(text, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False)
    return value


def post(path, contents):
    """Requests without a socket; an exception of the application is one here."""

    async def main():
        engine = PlayedEngine(TOKENS)
        engine.model = lambda prompt, sampling: "<think>a</think>\u2028 b"
        served, config = Served(engine, TOKENS, (BEGIN,), frozenset({END})), ServerConfig("m", 1024)
        app = make_app(served, config, Gate(engine, config))
        app = application(INDEX) if path == "/retrieve" else app
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.post(path, content=content) for content in contents]

    return asyncio.run(main())


def check(path, *bodies):
    answers = post(path, [json.dumps(body).encode() for body in bodies])
    for answer in answers:
        assert answer.status_code in (200, 400, 404), answer.text
        parts = [answer.text]
        if "event-stream" in answer.headers["content-type"]:
            events = answer.text.splitlines()
            assert all(not event or event.startswith("data: ") for event in events)
            parts = [event[6:] for event in events if event]
            assert parts.pop() == "[DONE]"
        for part in parts:
            strict(part)
        if answer.status_code != 200:
            assert len(answer.content) < 5000 and strict(answer.text)["error"]
    return answers


@pytest.mark.parametrize("path", BODIES)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_value_in_any_place(path, data):
    body = BODIES[path]
    changed = put(body, data.draw(st.sampled_from(list(places(body)))), data.draw(JSON))
    if isinstance(changed, dict) and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(NAMES) | st.text(max_size=4))
        changed = {**changed, name: data.draw(JSON)}
    check(path, changed)


@pytest.mark.parametrize("path", BODIES)
def test_every_field_with_every_odd_value(path):
    """Without chance: each place that the good body has, and each name that is known."""
    body = BODIES[path]
    changed = [put(body, place, value) for place in places(body) for value in ODD]
    if path != "/retrieve":
        short = {"model": "m", "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
        short.pop("prompt" if "chat" in path else "messages")
        changed += [{**short, "max_tokens": 2, name: value} for name in NAMES for value in ODD[::4]]
    assert check(path, body, *changed)[0].status_code == 200


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
@example(b"[" * 100_000)
@example(b'{"queries": ' + b"[" * 100_000)
@example(b'{"queries": ["a"], "x":' + b'{"a":' * 101 + b"1" + b"}" * 102)
@example(b"\xef\xbb\xbf{}")
@example(b"9" * 5000)
def test_any_bytes(content):
    for path in BODIES:
        (answer,) = post(path, [content])
        # 404 is an object without a model.
        assert answer.status_code in (400, 404) and len(answer.content) < 1000, answer.text


def test_nesting_has_a_bound_that_is_told():
    for depth, status in ((99, 200), (100, 400)):
        body = b'{"model": "m", "prompt": "x", "metadata": ' + b"[" * depth + b"]" * depth + b"}"
        (answer,) = post("/v1/completions", [body])
        assert answer.status_code == status
    assert "nested deeper than 100" in answer.json()["error"]["message"]


@pytest.mark.parametrize("arguments", ["[" * 990 + "]" * 990, '{"a": "\\ud800"}', "NaN", "{"])
def test_arguments_of_earlier_calls_are_json(arguments):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "x"}]
    (answer,) = check("/v1/chat/completions", {"model": "m", "messages": messages})
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400 and message.startswith("messages[0].tool_calls[0].function")
