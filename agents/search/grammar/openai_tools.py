"""Tool calls as OpenAI-compatible chat completions stream them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loomax.agents.search.grammar.action import Answer, Event, Malformed, Reasoning, ToolCall
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


class OpenAIParser:
    """Reads the chunks of one streamed completion, as dictionaries.

    A call is complete when the next one begins or the completion ends.
    """

    def __init__(self, tools: Mapping[str, Mapping[str, Any]]):
        self._tools = tools
        self._content, self._reasoning, self._ended = "", "", False
        self._call: dict[str, Any] | None = None
        self._acted = self._done = False

    @property
    def done(self) -> bool:
        return self._done

    def feed(self, piece: object) -> list[Event]:
        """See `Parser`."""
        if self._done:
            return []
        try:
            events = self._chunk(piece)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            events = [Malformed("bad_chunk", f"{type(error).__name__}: {error}")]
            self._done = True
        return events

    def finish(self) -> list[Event]:
        """See `Parser`."""
        return [] if self._done else self._end("cut_off")

    def _chunk(self, piece: Any) -> list[Event]:
        events: list[Event] = []
        # The last chunk of a stream may carry the usage and no choice.
        for choice in piece["choices"][:1]:
            delta = choice.get("delta") or {}
            self._content += delta.get("content") or ""
            self._reasoning += delta.get("reasoning_content") or ""
            for part in delta.get("tool_calls") or ():
                events += self._part(part)
            if len(self._content) > MOST_CHARACTERS:
                self._done = True
                return [*events, Malformed("too_long", f"content of over {MOST_CHARACTERS}")]
            if choice.get("finish_reason"):
                events += self._end(choice["finish_reason"])
        return events

    def _part(self, part: Any) -> list[Event]:
        events: list[Event] = []
        if self._call is None or part["index"] != self._call["index"]:
            events = self._complete()
            self._call = {"index": part["index"], "id": "", "name": "", "arguments": ""}
        function = part.get("function") or {}
        self._call["id"] = part.get("id") or self._call["id"]
        self._call["name"] += function.get("name") or ""
        self._call["arguments"] += function.get("arguments") or ""
        if len(self._call["arguments"]) > MOST_CHARACTERS:
            raise ValueError(f"arguments of over {MOST_CHARACTERS} characters")
        return events

    def _end(self, reason: str) -> list[Event]:
        self._done = True
        if reason not in ("stop", "tool_calls"):
            fault = Malformed("cut_off", f"the completion ended by {reason!r}")
            return [*self._thoughts(), fault]
        events = self._complete()
        if self._acted:
            return events
        text = self._content.strip()
        end = Answer(text) if text else Malformed("no_action", "neither a tool call nor content")
        return [*self._thoughts(), end]

    def _thoughts(self) -> list[Event]:
        """Reasoning, and with calls the content, which then is no answer."""
        text, self._reasoning = self._reasoning.strip(), ""
        return [Reasoning(text)] if text else []

    def _complete(self) -> list[Event]:
        call, self._call = self._call, None
        if call is None:
            return []
        self._acted = True
        return [*self._thoughts(), _checked(call, self._tools)]


def _checked(call: Mapping[str, Any], tools: Mapping[str, Mapping[str, Any]]) -> Event:
    """The call, or what is wrong with it."""
    name, number = call["name"], call["id"]
    if name not in tools:
        return Malformed("unknown_tool", f"no tool {name!r}; there is {', '.join(tools)}", number)
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError as error:
        return Malformed("bad_json", f"the arguments of {name}: {error}", number)
    if not isinstance(arguments, dict):
        return Malformed("bad_json", f"the arguments of {name} must be an object", number)
    schema = tools[name]
    for wanted in schema.get("required", ()):
        if wanted not in arguments:
            return Malformed("missing_argument", f"{name} needs {wanted!r}", number)
    for given, value in arguments.items():
        kind = schema.get("properties", {}).get(given, {}).get("type")
        flag = isinstance(value, bool) and kind != "boolean"
        if kind in TYPES and (flag or not isinstance(value, TYPES[kind])):
            detail = f"{name}: {given!r} is {value!r}; it must be of type {kind}"
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
