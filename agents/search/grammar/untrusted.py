"""Text and JSON that a model wrote: whatever it holds, later code can encode and walk it."""

import json
from typing import Any

# No tool's arguments come near; deeper ones exhaust the stack of whoever walks them.
MOST_DEPTH = 64


def whole(text: str) -> str:
    """`text` with halves of surrogate pairs joined, and replaced by U+FFFD where one is alone."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def brief(text: str, most: int = 200) -> str:
    """The beginning of a text, for messages that quote it."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def read_object(text: str) -> dict[str, Any]:
    """A JSON object whose strings can be encoded.

    Raises:
        ValueError: it is no such object, or nested deeper than `MOST_DEPTH`.
    """
    try:
        held = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MOST_DEPTH}") from None
    if not isinstance(held, dict):
        raise ValueError("it must be an object")
    return _walk(held, 0)


def _walk(value: Any, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise ValueError(f"nested deeper than {MOST_DEPTH}")
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [_walk(held, depth + 1) for held in value]
    if isinstance(value, dict):
        return {whole(name): _walk(held, depth + 1) for name, held in value.items()}
    return value
