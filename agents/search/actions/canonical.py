"""The key of a call: equal for calls that ask the same."""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any


def canonical_key(tool: str, arguments: Mapping[str, Any], version: str) -> str:
    """Tool, arguments and corpus version as one string.

    The order of names, the form of Unicode (NFC) and the amount of white space make no difference;
    upper and lower case do.

    Raises:
        ValueError: the arguments are not what JSON can hold.
    """
    try:
        return json.dumps(
            [tool, version, _canonical(arguments)],
            sort_keys=True,
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the arguments of {tool} are not JSON: {error}") from None


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("names must be strings")
        return {name: _canonical(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(held) for held in value]
    return value
