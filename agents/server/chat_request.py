"""The body of `POST /v1/chat/completions`."""

from collections.abc import Sequence

from loomax.agents.search.json_text import shown
from loomax.agents.server.asked import (
    Asked,
    check_model,
    check_size,
    encode,
    make_samples,
    read_count,
    read_kind,
    read_most,
    read_stops,
    read_stream,
)
from loomax.agents.server.config import ServerConfig
from loomax.agents.server.errors import invalid
from loomax.agents.server.fields import Fields
from loomax.agents.server.messages import ToolSpec, ToolUse, named, read_messages, read_tools
from loomax.agents.server.served import Served


def read_chat(body: object, served: Served, config: ServerConfig) -> Asked:
    """A checked request.

    Raises:
        ApiError: naming the field that is at fault.
    """
    fields = Fields(body)
    check_model(fields, config)
    messages, count = read_messages(fields.take("messages")), read_count(fields, config)
    # What the messages hold is a part of the prompt, and is cheap to count.
    letters = sum(len(message.content) + _letters(message.calls) for message in messages)
    check_size(letters, served, config, "messages")
    tools, forced = _choose(fields, read_tools(fields.take("tools")), served)
    single = not fields.flag("parallel_tool_calls", True)
    stream, usage = read_stream(fields)
    stops = (*read_stops(fields), *served.chat.stops)
    kind, logprobs = read_kind(fields), fields.flag("logprobs")
    most = read_most(fields, ("max_completion_tokens", "max_tokens"), None)
    text = served.chat.prompt(messages, tools) + forced
    prompt = encode(text, served, config, "messages")
    samples = make_samples(fields, config, [prompt], count, most, stops, "messages")
    fields.close()
    return Asked(
        samples=samples,
        count=count,
        stops=stops,
        kind=kind,
        stream=stream,
        usage=usage,
        logprobs=logprobs,
        chat=True,
        tools=tools,
        forced=forced,
        single=single,
    )


def _letters(calls: Sequence[ToolUse]) -> int:
    return sum(len(call.name) + len(call.arguments) for call in calls)


def _choose(
    fields: Fields, tools: Sequence[ToolSpec], served: Served
) -> tuple[tuple[ToolSpec, ...], str]:
    """The tools that may be called, and how an answer that must call one begins."""
    choice = fields.take("tool_choice", "auto" if tools else "none")
    if choice == "none":
        return (), ""
    if not tools:
        raise invalid("tool_choice needs tools", "tool_choice")
    if choice == "auto":
        return tuple(tools), ""
    if choice == "required":
        return tuple(tools), served.chat.forced(None)
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if name is None or not isinstance(choice, dict) or choice.get("type") != "function":
        message = f"tool_choice is {shown(choice)}; give none, auto, required or a function"
        raise invalid(message, "tool_choice", "invalid_value")
    if not named(tools, name):
        raise invalid(
            f"tool_choice names {shown(name)}, which is not among the tools", "tool_choice"
        )
    return tuple(tools), served.chat.forced(name)
