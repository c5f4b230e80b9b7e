"""What `POST /v1/chat/completions` answers, whole or in chunks."""

import secrets
from collections.abc import Sequence
from typing import Any

from loomax.agents.server.answer import Part, Scored, finite
from loomax.agents.server.reader import CallStart, Content, Delta, Thought

PREFIX, OBJECT, CHUNK = "chatcmpl", "chat.completion", "chat.completion.chunk"


def first_choice(index: int) -> dict[str, Any]:
    """The chunk that begins an answer."""
    return _choice(index, {"role": "assistant", "content": ""}, None, None)


def chunk_choice(index: int, part: Part, *, logprobs: bool) -> dict[str, Any]:
    """A chunk of an answer."""
    scored = _logprobs(part.scored) if logprobs else None
    return _choice(index, fold(part.deltas), scored, part)


def whole_choice(index: int, part: Part, *, logprobs: bool) -> dict[str, Any]:
    """A whole answer."""
    folded = fold(part.deltas)
    message: dict[str, Any] = {"role": "assistant", "content": folded.pop("content", None)}
    calls = folded.pop("tool_calls", ())
    message |= folded
    if calls:
        kept = ("id", "type", "function")
        message["tool_calls"] = [{name: call[name] for name in kept} for call in calls]
    elif message["content"] is None:
        message["content"] = ""
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(part.scored) if logprobs else None,
        "finish_reason": part.finish,
        "stop_reason": part.stop,
    }


def fold(deltas: Sequence[Delta]) -> dict[str, Any]:
    """Deltas as one `delta` of a chunk; what stands in it more than once is joined."""
    texts: dict[str, list[str]] = {}
    calls: dict[int, dict[str, Any]] = {}
    arguments: dict[int, list[str]] = {}
    for delta in deltas:
        if isinstance(delta, Content):
            texts.setdefault("content", []).append(delta.text)
        elif isinstance(delta, Thought):
            texts.setdefault("reasoning_content", []).append(delta.text)
        elif isinstance(delta, CallStart):
            number = f"call_{secrets.token_hex(12)}"
            calls[delta.index] = {"index": delta.index, "id": number, "type": "function"}
            calls[delta.index]["function"] = {"name": delta.name, "arguments": ""}
        else:
            empty = {"index": delta.index, "function": {"arguments": ""}}
            calls.setdefault(delta.index, empty)
            arguments.setdefault(delta.index, []).append(delta.text)
    for index, parts in arguments.items():
        calls[index]["function"]["arguments"] = "".join(parts)
    folded: dict[str, Any] = {name: "".join(parts) for name, parts in texts.items()}
    if calls:
        folded["tool_calls"] = list(calls.values())
    return folded


def _choice(index: int, delta: dict, logprobs: object, part: Part | None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
    if part is not None and part.finish:
        choice |= {"finish_reason": part.finish, "stop_reason": part.stop}
    return choice


def _logprobs(scored: Sequence[Scored]) -> dict[str, Any]:
    entries = [
        {
            "token": each.held.decode("utf-8", "replace"),
            "bytes": list(each.held),
            "logprob": finite(each.logprob),
            "top_logprobs": [],
        }
        for each in scored
    ]
    return {"content": entries, "refusal": None}
