"""A conversation with a chat endpoint as numbered texts.

The first letter of a text tells what it is: "m" begins a message (JSON), "t" adds to its content,
"c" is one choice of a chunk that the endpoint sent (JSON), "f" demands a call from what follows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loomax.agents.search.endpoint.table import Table
from loomax.models.tokenizer.bpe import words_of

FORCED = "f"


class ConversationReader:
    """Gives the chunks back."""

    def __init__(self, table: Table):
        self._table = table

    def feed(self, tokens: Sequence[int]) -> Sequence[dict[str, Any]]:
        """See `Reader`."""
        texts = self._table.pieces(tokens)
        return [{"choices": [json.loads(text[1:])]} for text in texts if text[0] == "c"]

    def finish(self) -> Sequence[dict[str, Any]]:
        """See `Reader`."""
        return ()


class ConversationCodec:
    """The `Codec` of chat endpoints; a draft is a call that is demanded.

    Args:
        system: the message before the question; "" if there is none.
    """

    closing: tuple[int, ...] = ()
    # A score would have to be asked for in another turn.
    question: tuple[int, ...] = ()

    def __init__(self, table: Table, *, system: str = ""):
        self._table, self._system = table, system
        self.opening: tuple[int, ...] = (table.number(FORCED),)

    def score(self, token: int) -> float:
        """See `Codec`."""
        del token
        return 0.0

    def prompt(self, question: str) -> tuple[int, ...]:
        """See `Codec`."""
        messages = [{"role": "system", "content": self._system}] if self._system else []
        return self.observation([*messages, {"role": "user", "content": question}])

    def observation(self, shown: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """See `Codec`."""
        tokens: list[int] = []
        for message in shown:
            head = {name: value for name, value in message.items() if name != "content"}
            tokens.append(self._table.number("m" + json.dumps(head)))
            tokens += [self._table.number("t" + word) for word in words_of(message["content"])]
        return tuple(tokens)

    def reader(self) -> ConversationReader:
        """See `Codec`."""
        return ConversationReader(self._table)


def messages_of(texts: Iterable[str]) -> tuple[list[dict[str, Any]], bool]:
    """The messages that an endpoint is sent, and whether it has to call a tool."""
    messages: list[dict[str, Any]] = []
    writing = forced = False
    for text in texts:
        kind, rest = text[0], text[1:]
        forced = kind == FORCED
        if kind == "m":
            messages.append({**json.loads(rest), "content": ""})
            writing = False
        elif kind == "t":
            messages[-1]["content"] += rest
        elif kind == "c":
            if not writing:
                messages.append({"role": "assistant", "content": ""})
                writing = True
            _grow(messages[-1], json.loads(rest)["delta"])
    return [_sendable(message) for message in messages], forced


def _grow(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Adds a delta to the assistant's message. Reasoning is not sent back."""
    message["content"] += delta.get("content") or ""
    for part in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", [])
        if not calls or calls[-1]["index"] != part.get("index", 0):
            function = {"name": "", "arguments": ""}
            calls.append({"index": part.get("index", 0), "id": "", "function": function})
        function = part.get("function") or {}
        calls[-1]["id"] += part.get("id") or ""
        calls[-1]["function"]["name"] += function.get("name") or ""
        calls[-1]["function"]["arguments"] += function.get("arguments") or ""


def _sendable(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the form of a request; broken arguments would make the whole of it wrong."""
    calls = [
        {"id": call["id"], "type": "function", "function": _function(call["function"])}
        for call in message.get("tool_calls", ())
    ]
    if not calls:
        return {name: value for name, value in message.items() if name != "tool_calls"}
    return {**message, "content": message["content"] or None, "tool_calls": calls}


def _function(function: Mapping[str, str]) -> dict[str, str]:
    try:
        good = isinstance(json.loads(function["arguments"]), dict)
    except ValueError:
        good = False
    return {"name": function["name"], "arguments": function["arguments"] if good else "{}"}
