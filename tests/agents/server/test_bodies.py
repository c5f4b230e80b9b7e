"""Whatever a body holds, it is read or refused; nothing else comes out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loomax.agents.search.loop.byte_codec import ByteTokens
from loomax.agents.server.asked import Asked
from loomax.agents.server.chat_request import read_chat
from loomax.agents.server.completion_request import read_completion
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import ApiError
from loomax.agents.server.fields import LABELS, NEUTRAL
from loomax.agents.server.served import Served


class NoEngine:
    async def submit(self, *args, **given): ...
    async def fork(self, *args, **given): ...
    def halt(self, request): ...
    def abort(self, request): ...
    def load(self): ...
    def watch(self, listen): ...


SERVED = Served(NoEngine(), ByteTokens("bytes"), (1,))
CONFIG = ServerConfig("m", 1024)
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "t"}]},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "stop": ["x"],
    "logprobs": True,
    "n": 2,
    "seed": 1,
    "temperature": 0.5,
    "max_tokens": 5,
    "priority": -1,
}
TEXT = {"model": "m", "prompt": ["a", [5, 6]], "logprobs": 0, "stop": "x", "max_tokens": 5}
NAMES = sorted({*CHAT, *TEXT, *NEUTRAL, *LABELS, "other"})
WORDS = st.sampled_from(["user", "text", "function", "f", "m", "", "a", "{", "\ud800", "auto"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
KEYS = st.sampled_from(["role", "content", "type", "text", "function", "name", "arguments", "id",
                        "tool_calls", "parameters", "include_usage", "strict"])  # fmt: skip
JSON = st.recursive(
    LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=4)
)


@pytest.mark.parametrize(("read", "body"), [(read_chat, CHAT), (read_completion, TEXT)])
def test_the_body_that_is_changed_is_good(read, body):
    asked = read(body, SERVED, CONFIG)
    assert isinstance(asked, Asked) and asked.samples


def places(value, path=()):
    """Every place within a body."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def put(value, path, new):
    if not path:
        return new
    changed = value.copy()
    changed[path[0]] = put(value[path[0]], path[1:], new)
    return changed


@pytest.mark.parametrize(("read", "body"), [(read_chat, CHAT), (read_completion, TEXT)])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_is_read_or_refused(read, body, data):
    path = data.draw(st.sampled_from(list(places(body))))
    changed = put(body, path, data.draw(JSON))
    if isinstance(changed, dict) and data.draw(st.booleans()):
        changed = {**changed, data.draw(st.sampled_from(NAMES)): data.draw(JSON)}
    try:
        asked = read(changed, SERVED, CONFIG)
    except ApiError as error:
        assert error.status in (400, 404) and error.message
    else:
        most = max(len(s.prompt) + s.sampling.most for s in asked.samples)
        assert most <= CONFIG.context and len(asked.samples) <= CONFIG.samples
