"""The messages and tools of a chat request, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loomax.agents.search.json_text import read_json, shown
from loomax.agents.server.errors import invalid

ROLES = ("system", "developer", "user", "assistant", "tool")
KNOWN = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "refusal")
# What is neither null nor one of these asks for something that is not done.
IDLE = ([], {}, "")
SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class ToolUse:
    """A call that the model made in an earlier turn.

    Args:
        arguments: JSON.
    """

    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One message."""

    role: str
    content: str = ""
    calls: tuple[ToolUse, ...] = ()


@dataclass(frozen=True)
class ToolSpec:
    """A function that the model may call.

    Args:
        parameters: a JSON schema.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: SCHEMA)


def read_messages(value: object) -> tuple[Message, ...]:
    """Checked messages.

    Raises:
        ApiError: naming the message and the field.
    """
    if not isinstance(value, list) or not value:
        raise invalid("messages must be a list with at least one message", "messages")
    return tuple(_message(each, f"messages[{place}]") for place, each in enumerate(value))


def read_tools(value: object) -> tuple[ToolSpec, ...]:
    """Checked tools; None is none.

    Raises:
        ApiError: naming the tool and the field.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise invalid("tools must be a list", "tools")
    tools = tuple(_tool(each, f"tools[{place}]") for place, each in enumerate(value))
    if len({tool.name for tool in tools}) < len(tools):
        raise invalid("two tools have one name; names are unique", "tools")
    return tools


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        raise invalid(f"{where} must be an object with a role of {', '.join(ROLES)}", where)
    for name, held in value.items():
        # OpenAI's own objects carry fields without a value, such as `audio`, and more each year.
        if name not in KNOWN and held is not None and held not in IDLE:
            message = f"{where} has no field {shown(name)}"
            raise invalid(message, f"{where}.{name}", "unknown_parameter")
    calls = value.get("tool_calls") or []
    if calls and value["role"] != "assistant":
        raise invalid(f"{where}.tool_calls belong to the assistant", f"{where}.tool_calls")
    if not isinstance(calls, list):
        raise invalid(f"{where}.tool_calls must be a list", f"{where}.tool_calls")
    text = _content(value.get("content"), f"{where}.content")
    if text is None:
        text = _content(value.get("refusal"), f"{where}.refusal")
    if text is None and not calls and value["role"] != "assistant":
        raise invalid(f"{where} has no content", f"{where}.content")
    uses = tuple(_use(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(calls))
    return Message(value["role"], text or "", uses)


def _content(value: object, where: str) -> str | None:
    """The text of a message, which may come in parts."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise invalid(f"{where} must be a string or a list of parts", where)
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else part
        if not isinstance(part, dict) or kind not in ("text", "refusal"):
            message = f"{where}: a part of type {shown(kind)} is not supported; send text"
            raise invalid(message, where, "unsupported_content")
        if not isinstance(part.get(kind), str):
            raise invalid(f"{where}: a part has no text", where)
        texts.append(part[kind])
    return "".join(texts)


def _use(value: object, where: str) -> ToolUse:
    function = value.get("function") if isinstance(value, dict) else None
    function = function if isinstance(function, dict) else {}
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise invalid(f"{where} must hold a function with a name and arguments", where)
    try:
        read_json((arguments or "{}").encode(), f"{where}.function.arguments")
    except ValueError as error:
        raise invalid(str(error), where) from None
    return ToolUse(name, arguments or "{}")


def _tool(value: object, where: str) -> ToolSpec:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or value.get("type") != "function":
        raise invalid(f"{where} must be an object of type function with a function", where)
    name, text = function.get("name"), function.get("description") or ""
    parameters = function.get("parameters") or SCHEMA
    if not isinstance(name, str) or not name or not isinstance(text, str):
        raise invalid(f"{where}.function needs a name and may have a description", where)
    if not isinstance(parameters, dict):
        raise invalid(f"{where}.function.parameters must be a JSON schema", where)
    return ToolSpec(name, text, parameters)


def named(tools: Sequence[ToolSpec], name: object) -> bool:
    """Whether there is such a tool."""
    return any(tool.name == name for tool in tools)
