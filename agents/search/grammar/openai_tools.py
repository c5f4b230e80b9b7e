"""Tool calls as OpenAI-compatible chat completions stream them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loomax.agents.search.grammar.action import Answer, Event, Malformed, Reasoning, ToolCall
from loomax.agents.search.grammar.call_parts import CallPart, CallParts
from loomax.agents.search.grammar.untrusted import brief, read_object, whole
from loomax.agents.search.retrieval.document import Document

SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds documents by their words.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "What to look for."}},
            "required": ["query"],
        },
    },
}
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
MOST_CHARACTERS = 65_536
MOST_CALLS = 64


class OpenAIParser:
    """Reads the chunks of one streamed completion, as dictionaries.

    Calls are complete when the completion ends.
    """

    def __init__(self, tools: Mapping[str, Mapping[str, Any]]):
        self._tools, self._calls = tools, CallParts()
        self._content, self._reasoning = "", ""
        self._done = False

    @property
    def done(self) -> bool:
        return self._done

    def feed(self, piece: object) -> list[Event]:
        """See `Parser`."""
        if self._done:
            return []
        try:
            events = self._chunk(piece)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            events = [Malformed("bad_chunk", f"{type(error).__name__}: {error}")]
            self._done = True
        return events

    def finish(self) -> list[Event]:
        """See `Parser`."""
        return [] if self._done else self._end("cut_off")

    def _chunk(self, piece: Any) -> list[Event]:
        # The last chunk of a stream may carry the usage and no choice.
        for choice in piece["choices"][:1]:
            delta = choice.get("delta") or {}
            self._content += delta.get("content") or ""
            self._reasoning += delta.get("reasoning_content") or ""
            for part in delta.get("tool_calls") or ():
                call = self._calls.add(part)
                if len(call.name) + len(call.arguments) > MOST_CHARACTERS:
                    raise ValueError(f"arguments of over {MOST_CHARACTERS} characters")
                if len(self._calls.calls) > MOST_CALLS:
                    raise ValueError(f"over {MOST_CALLS} calls")
            if len(self._content) > MOST_CHARACTERS:
                self._done = True
                return [Malformed("too_long", f"content of over {MOST_CHARACTERS}")]
            if choice.get("finish_reason"):
                return self._end(choice["finish_reason"])
        return []

    def _end(self, reason: str) -> list[Event]:
        self._done = True
        calls = self._calls.calls
        if reason not in ("stop", "tool_calls"):
            # The last call may be cut anywhere; those before it are whole.
            last = calls[-1].id if calls else ""
            fault = Malformed("cut_off", f"the completion ended by {reason!r}", last)
            return [*self._thoughts(), *(_checked(c, self._tools) for c in calls[:-1]), fault]
        if calls:
            return [*self._thoughts(), *(_checked(call, self._tools) for call in calls)]
        text = whole(self._content).strip()
        end = Answer(text) if text else Malformed("no_action", "neither a tool call nor content")
        return [*self._thoughts(), end]

    def _thoughts(self) -> list[Event]:
        """Reasoning; content that comes with calls is no answer."""
        text = whole(self._reasoning).strip()
        return [Reasoning(text)] if text else []


def _checked(call: CallPart, tools: Mapping[str, Mapping[str, Any]]) -> Event:
    """The call, or what is wrong with it."""
    name, number = call.name, call.id
    if name not in tools:
        told = f"no tool {brief(name)!r}; there is {', '.join(tools)}"
        return Malformed("unknown_tool", told, number)
    try:
        arguments = read_object(call.arguments or "{}")
    except ValueError as error:
        return Malformed("bad_json", f"the arguments of {name}: {error}", number)
    schema = tools[name]
    for wanted in schema.get("required", ()):
        if wanted not in arguments:
            return Malformed("missing_argument", f"{name} needs {wanted!r}", number)
    for given, value in arguments.items():
        kind = schema.get("properties", {}).get(given, {}).get("type")
        flag = isinstance(value, bool) and kind != "boolean"
        if kind in TYPES and (flag or not isinstance(value, TYPES[kind])):
            detail = f"{name}: {given!r} is {brief(repr(value))}; it must be of type {kind}"
            return Malformed("wrong_argument", detail, number)
    return ToolCall(name, arguments, number)


class OpenAIGrammar:
    """Messages with tool calls.

    Args:
        tools: in the form of the `tools` of a chat completion.
    """

    stops = ()

    def __init__(self, tools: Sequence[Mapping[str, Any]] = (SEARCH,)):
        functions = [tool["function"] for tool in tools]
        self._tools = {function["name"]: function.get("parameters", {}) for function in functions}

    def parser(self) -> OpenAIParser:
        """A parser for one completion."""
        return OpenAIParser(self._tools)

    def observe(self, call: ToolCall, documents: Sequence[Document]) -> dict[str, Any]:
        """The message that answers a call."""
        shown = [{"title": found.title, "text": found.text} for found in documents]
        return _message(call.id, {"documents": shown})

    def correct(self, fault: Malformed) -> dict[str, Any]:
        """The message after a fault: to the tool call if it has an id, from the user if not."""
        if fault.id:
            return _message(fault.id, {"error": fault.fault, "detail": fault.detail})
        return {"role": "user", "content": f"{fault.fault}: {fault.detail}. Try again."}


def _message(number: str, body: object) -> dict[str, Any]:
    content = json.dumps(body, ensure_ascii=False)
    return {"role": "tool", "tool_call_id": number, "content": content}
