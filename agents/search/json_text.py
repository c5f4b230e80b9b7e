"""JSON from anybody, read with bounds, and JSON that any reader of lines can take."""

import json
import re
import reprlib
from collections.abc import Mapping
from itertools import islice
from typing import Any, NoReturn

# Brackets within brackets: code that walks a value calls itself so often.
MOST_DEPTH = 100
# Raw in a JSON string they are allowed, but `splitlines` and other readers of events end a line
# there; and halves of surrogate pairs have no UTF-8.
ODD = re.compile("[\x85\u2028\u2029\ud800-\udfff]")


def read_json(held: bytes | bytearray, what: str = "the body") -> Any:
    """The value of a JSON text in UTF-8; all its strings can be encoded again.

    Args:
        what: is read, for errors.

    Raises:
        ValueError: it is no JSON (NaN and Infinity are none), is nested deeper than `MOST_DEPTH`,
            or a string has half of a surrogate pair.
    """
    deep = f"{what} is nested deeper than {MOST_DEPTH}; flatten it"
    try:
        text = held.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        raise ValueError(f"{what} is not JSON") from None
    except RecursionError:
        raise ValueError(deep) from None
    if _deeper(value, MOST_DEPTH):
        raise ValueError(deep)
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} has half of a surrogate pair, which is no text") from None
    return value


def write_json(value: object) -> bytes:
    """A value as compact JSON in one line, in whatever sense of a line.

    Raises:
        ValueError: it has a number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def shown(value: object) -> str:
    """A value as an error quotes it: the beginning, whatever its size."""
    return _SHORT.repr(value)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _deeper(value: Any, most: int) -> bool:
    """Whether there are more than `most` containers within each other; never calls itself."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


class _Short(reprlib.Repr):
    def repr_dict(self, x: Mapping, level: int) -> str:
        """Without sorting all keys first."""
        head = super().repr_dict(dict(islice(x.items(), self.maxdict)), level)
        return head if len(x) <= self.maxdict else f"{head[:-1]}, ...}}"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 3, 60, 40, 60
