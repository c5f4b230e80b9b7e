"""Parameters that an endpoint refuses, and requests without them."""

import json
import re
from collections.abc import Mapping
from typing import Any

LIMITS = ("max_tokens", "max_completion_tokens")
# A request without them still asks for the same.
DROPPABLE = (*LIMITS, "logprobs", "temperature", "seed", "priority", "parallel_tool_calls")
STATUSES = (400, 422)


def refused(body: Mapping[str, Any], status: int, text: str) -> str | None:
    """The parameter of a request that an answer refuses; None if it refuses none of them.

    OpenAI's errors name it in `param`, others only somewhere in the message.
    """
    # A prompt that is too long is told of with the limit, which is not at fault.
    if status not in STATUSES or "context" in text and "length" in text:
        return None
    sent = [name for name in DROPPABLE if name in body]
    param = _param(text)
    if param in sent:
        return param
    places = {name: re.search(rf"\b{name}\b", text) for name in sent}
    named = {name: found.start() for name, found in places.items() if found}
    return min(named, key=named.__getitem__, default=None)


def instead(name: str, text: str) -> str | None:
    """The name under which an endpoint wants a parameter that it refuses."""
    others = [limit for limit in LIMITS if limit != name] if name in LIMITS else []
    return next((other for other in others if re.search(rf"\b{other}\b", text)), None)


def without(body: Mapping[str, Any], changes: Mapping[str, str | None]) -> dict[str, Any]:
    """A request with parameters left out, or under another name.

    Args:
        changes: by name, the other name or None.
    """
    made = dict(body)
    for name, other in changes.items():
        if name in made:
            value = made.pop(name)
            if other:
                made[other] = value
    return made


def _param(text: str) -> object:
    try:
        error = json.loads(text)["error"]
        return error["param"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
