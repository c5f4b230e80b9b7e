"""The requests that an endpoint is sent, and the events of its streams."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.endpoint.conversation import messages_of
from loomax.agents.search.endpoint.table import Table
from loomax.agents.search.engine_protocol import Kind, Sampling
from loomax.agents.search.errors import MalformedOutput, ToolError
from loomax.agents.search.grammar.call_parts import CallParts
from loomax.agents.search.grammar.untrusted import brief, whole

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
SEEDS = 2**31
# What reading JSON of another form comes to.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
# By vLLM's `priority`, lower goes first.
PRIORITIES: Mapping[Kind, int] = {"draft": -1, "score": -1, "main": 0, "background": 1}


@dataclass(frozen=True)
class Delta:
    """What one event adds to one sample.

    Args:
        text: to be numbered; "" if there is none.
        logprob: the least of its tokens; minus infinity if the endpoint tells none.
        finish: why the sample ended.
        stop: the string that ended it, where the endpoint tells.
    """

    index: int
    text: str
    logprob: float
    finish: str | None = None
    stop: str | None = None


def body(
    config: EndpointConfig,
    table: Table,
    tools: Sequence[Mapping[str, Any]],
    tokens: Sequence[int],
    sampling: Sampling,
    *,
    count: int,
    kind: Kind,
) -> dict[str, Any]:
    """The JSON of a request for `count` samples.

    Args:
        tools: of a chat; the first one is what a draft calls.
    """
    made: dict[str, Any] = {
        "model": config.model,
        "stream": True,
        "n": count,
        "seed": (sampling.seed * 16 + sampling.sample) % SEEDS,
    }
    if config.temperature:
        made["temperature"] = sampling.temperature
    if config.limit != "none":
        # The end of a sample is a text of its own, and has to find room.
        made[config.limit] = max(1, sampling.most - 1)
    if config.priority:
        made["priority"] = PRIORITIES[kind]
    if sampling.stops:
        made["stop"] = list(sampling.stops)
    texts = table.pieces(tokens)
    if config.api == "completions":
        logprobs = {"logprobs": 0} if config.logprobs else {}
        return made | logprobs | {"prompt": whole("".join(texts))}
    messages, forced = messages_of(texts)
    made |= {"messages": messages, "tools": list(tools)}
    if config.logprobs:
        made["logprobs"] = True
    if forced:
        name = tools[0]["function"]["name"]
        made["tool_choice"] = {"type": "function", "function": {"name": name}}
        # What follows the first call of a draft is not read.
        made["parallel_tool_calls"] = False
    return made


def read_event(config: EndpointConfig, data: str) -> list[Delta]:
    """What an event of a stream tells, from its data.

    Raises:
        ToolError: the endpoint tells of an error.
        MalformedOutput: the event cannot be read.
    """
    if data.strip() == "[DONE]":
        return []
    try:
        event = json.loads(data)
        if event.get("error"):
            raise ToolError(f"the endpoint: {brief(str(event['error']))}")
        choices = event.get("choices") or []
        read = _chat if config.api == "chat" else _completion
        return [read(choice) for choice in choices]
    except UNREADABLE as error:
        told = f"{type(error).__name__} in the event {brief(data)!r}"
        raise MalformedOutput(told) from None


def _chat(choice: Mapping[str, Any]) -> Delta:
    delta, finish = _delta(choice.get("delta") or {}), _text(choice, "finish_reason") or None
    entries = (choice.get("logprobs") or {}).get("content") or []
    least = _least(entry["logprob"] for entry in entries)
    text = json.dumps({"delta": delta, "finish_reason": finish}, sort_keys=True)
    shown = f"c{text}" if delta or finish else ""
    # The event that ends a sample need not hold a token.
    certain = not entries and not delta
    return Delta(int(choice.get("index", 0)), shown, 0.0 if certain else least, finish)


def _delta(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is read of a delta, checked; nothing else is kept or sent back."""
    held: dict[str, Any] = {
        "content": _text(given, "content"),
        # vLLM and OpenRouter name it `reasoning`.
        "reasoning_content": _text(given, "reasoning_content") or _text(given, "reasoning"),
        "tool_calls": list(given.get("tool_calls") or ()),
    }
    checked = CallParts()
    for part in held["tool_calls"]:
        checked.add(part)
    return {name: value for name, value in held.items() if value}


def _completion(choice: Mapping[str, Any]) -> Delta:
    text, finish = whole(_text(choice, "text")), _text(choice, "finish_reason") or None
    entries = (choice.get("logprobs") or {}).get("token_logprobs") or []
    least = _least(each for each in entries if each is not None)
    stop = choice.get("stop_reason", choice.get("matched_stop"))
    return Delta(
        int(choice.get("index", 0)),
        text,
        least if entries or text else 0.0,
        finish,
        stop if isinstance(stop, str) else None,
    )


def _text(held: Mapping[str, Any], name: str) -> str:
    value = held.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}")
    return value or ""


def _least(values: Iterable[Any]) -> float:
    """The least log-probability; minus infinity if there is none, or one is no number."""
    logprobs = [float(value) for value in values]
    if any(math.isnan(each) for each in logprobs):
        return -math.inf
    # Some endpoints round to above 0.
    return min(0.0, *logprobs) if logprobs else -math.inf
