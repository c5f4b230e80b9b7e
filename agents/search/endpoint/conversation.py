"""A conversation with a chat endpoint as numbered texts.

The first letter of a text tells what it is: "m" begins a message (JSON), "t" adds to its content,
"c" is one choice of a chunk that the endpoint sent (JSON), "f" demands a call from what follows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loomax.agents.search.endpoint.table import Table
from loomax.agents.search.grammar.call_parts import CallPart, CallParts
from loomax.agents.search.grammar.untrusted import read_object, whole
from loomax.models.tokenizer.bpe import words_of

FORCED = "f"
CALLS = "tool_calls"
NOT_RUN = '{"error": "not_run", "detail": "this call was not run"}'


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
    """The messages that an endpoint is sent, and whether it has to call a tool.

    Endpoints refuse a conversation in which a call has no reply, or something comes before one:
    replies directly follow their calls, and a call that was never run is told so.
    """
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
                messages.append({"role": "assistant", "content": "", CALLS: CallParts()})
                writing = True
            _grow(messages[-1], json.loads(rest)["delta"])
    return [_sendable(message) for turn in _turns(messages) for message in _replied(turn)], forced


def _grow(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Adds a delta to the assistant's message. Reasoning is not sent back."""
    message["content"] += delta.get("content") or ""
    for part in delta.get("tool_calls") or ():
        message[CALLS].add(part)


def _turns(messages: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Each message of the assistant with what follows it; the first turn has none."""
    turns: list[list[dict[str, Any]]] = [[]]
    for message in messages:
        if message["role"] == "assistant":
            turns.append([])
        turns[-1].append(message)
    return turns


def _replied(turn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A turn in which each call has its reply, before anything else."""
    head = [message for message in turn if message["role"] == "assistant"]
    calls = head[0][CALLS].calls if head else []
    if not calls:
        return turn
    replies = {message.get("tool_call_id"): message for message in turn[1:]}
    made = [
        replies.get(call.id) or {"role": "tool", "tool_call_id": call.id, "content": NOT_RUN}
        for call in calls
    ]
    return [*head, *made, *(message for message in turn[1:] if message["role"] != "tool")]


def _sendable(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in the form of a request."""
    held = {name: value for name, value in message.items() if name != CALLS}
    held["content"] = whole(held["content"])
    parts = message[CALLS].calls if CALLS in message else ()
    if parts:
        calls = [{"id": c.id, "type": "function", "function": _function(c)} for c in parts]
        held |= {"content": held["content"] or None, CALLS: calls}
    return held


def _function(call: CallPart) -> dict[str, str]:
    """Name and arguments; broken ones would make the whole request wrong."""
    written = whole(call.arguments)
    try:
        clean = json.dumps(read_object(written))
    except ValueError:
        written = clean = "{}"
    # What the model wrote, unless it wrote what cannot be encoded.
    same = written if json.loads(written) == json.loads(clean) else clean
    return {"name": whole(call.name) or "unnamed", "arguments": same}
