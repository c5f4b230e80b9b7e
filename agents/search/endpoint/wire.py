"""The requests that an endpoint is sent, and the events of its streams."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loomax.agents.search.endpoint.config import EndpointConfig
from loomax.agents.search.endpoint.conversation import messages_of
from loomax.agents.search.endpoint.table import Table
from loomax.agents.search.engine_protocol import Kind, Sampling
from loomax.agents.search.errors import MalformedOutput, ToolError

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
SEEDS = 2**31
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
        "temperature": sampling.temperature,
        "seed": (sampling.seed * 16 + sampling.sample) % SEEDS,
        # The end of a sample is a text of its own, and has to find room.
        config.limit: max(1, sampling.most - 1),
    }
    if config.priority:
        made["priority"] = PRIORITIES[kind]
    if sampling.stops:
        made["stop"] = list(sampling.stops)
    texts = table.pieces(tokens)
    if config.api == "completions":
        logprobs = {"logprobs": 0} if config.logprobs else {}
        return made | logprobs | {"prompt": "".join(texts)}
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


def read_event(config: EndpointConfig, line: str) -> list[Delta]:
    """What a line of a stream tells; most lines are empty.

    Raises:
        ToolError: the endpoint tells of an error.
        MalformedOutput: the line cannot be read.
    """
    if not line.startswith("data:") or line[5:].strip() == "[DONE]":
        return []
    try:
        event = json.loads(line[5:])
        if event.get("error"):
            raise ToolError(f"the endpoint: {event['error']}")
        choices = event.get("choices") or []
        read = _chat if config.api == "chat" else _completion
        return [read(choice) for choice in choices]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MalformedOutput(f"{type(error).__name__} in the event {line[:200]!r}") from None


def _chat(choice: Mapping[str, Any]) -> Delta:
    delta = {name: value for name, value in (choice.get("delta") or {}).items() if value}
    finish = choice.get("finish_reason")
    delta.pop("role", None)
    entries = (choice.get("logprobs") or {}).get("content") or []
    least = min((float(entry["logprob"]) for entry in entries), default=-math.inf)
    text = json.dumps({"delta": delta, "finish_reason": finish}, sort_keys=True)
    shown = f"c{text}" if delta or finish else ""
    # The event that ends a sample need not hold a token.
    certain = not entries and not delta
    return Delta(int(choice.get("index", 0)), shown, 0.0 if certain else least, finish)


def _completion(choice: Mapping[str, Any]) -> Delta:
    text, finish = choice.get("text") or "", choice.get("finish_reason")
    entries = (choice.get("logprobs") or {}).get("token_logprobs") or []
    least = min((float(each) for each in entries if each is not None), default=-math.inf)
    stop = choice.get("stop_reason", choice.get("matched_stop"))
    return Delta(
        int(choice.get("index", 0)),
        text,
        least if entries or text else 0.0,
        finish,
        stop if isinstance(stop, str) else None,
    )
