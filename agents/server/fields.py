"""Fields of a request's JSON, each read once; what nobody read is refused by its name."""

import math
from collections.abc import Mapping
from typing import Any

from loomax.agents.server.errors import ApiError, invalid

# What is not supported, and the values that ask for nothing. null always asks for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "top_p": (1,),
}
# Who asks changes nothing about the answer.
LABELS = ("user", "metadata", "safety_identifier")


class Fields:
    """The fields of one request.

    Raises:
        ApiError: the body is no JSON object.
    """

    def __init__(self, body: object):
        if not isinstance(body, dict):
            raise invalid("the body must be a JSON object")
        self._left: dict[str, Any] = {k: v for k, v in body.items() if v is not None}

    def take(self, name: str, default: Any = None) -> Any:
        """The value of a field, whatever it is."""
        return self._left.pop(name, default)

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.take(name, default)
        if not isinstance(value, str):
            raise _wrong(name, value, "a string")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number in a range."""
        value = self.take(name, default)
        if not _is_number(value) or not least <= value <= most:
            raise _wrong(name, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def whole(self, name: str, default: Any, least: int, most: int | None = None) -> Any:
        """A whole number in a range, or the default."""
        value = self.take(name)
        if value is None:
            return default
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not good or (most is not None and value > most):
            upper = "" if most is None else f", at most {most}"
            raise _wrong(name, value, f"a whole number, at least {least}{upper}")
        return value

    def nested(self, name: str) -> Mapping[str, Any]:
        """An object; empty if it is not there."""
        value = self.take(name, {})
        if not isinstance(value, dict):
            raise _wrong(name, value, "an object")
        return value

    def close(self) -> None:
        """Refuses what is left, unless it asks for nothing.

        Raises:
            ApiError: naming the first such field.
        """
        for name, value in self._left.items():
            if name in LABELS or any(_same(value, idle) for idle in NEUTRAL.get(name, ())):
                continue
            if name in NEUTRAL:
                shown = " or ".join(map(repr, NEUTRAL[name]))
                raise invalid(
                    f"{name} {value!r} is not supported; leave it out or give {shown}",
                    name,
                    "unsupported_parameter",
                )
            raise invalid(f"there is no parameter {name!r}", name, "unknown_parameter")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _same(value: Any, idle: Any) -> bool:
    """Equal, and not only as False equals 0."""
    return value == idle and isinstance(value, bool) == isinstance(idle, bool)


def _wrong(name: str, value: object, wanted: str) -> ApiError:
    return invalid(f"{name} is {value!r:.80}; it must be {wanted}", name, "invalid_value")
