"""Tool calls of one message, put together from the parts that endpoints stream.

OpenAI numbers the calls of a message and names each once. Others leave `index` out, number all
calls 0, repeat id and name in every part, or give no ids; what is meant is told apart here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loomax.agents.search.grammar.untrusted import read_object


@dataclass
class CallPart:
    """A call so far.

    Args:
        index: its number, where the endpoint gives one.
        given: its id there; "" if there is none.
        id: unique in its message.
        arguments: the text of a JSON object.
    """

    index: int | None
    given: str
    id: str
    name: str = ""
    arguments: str = ""


class CallParts:
    """The calls of one message, in the order in which they began."""

    def __init__(self):
        self.calls: list[CallPart] = []

    def add(self, part: Mapping[str, Any]) -> CallPart:
        """Adds a part, and returns the call that it belongs to.

        Raises:
            TypeError: a field is of another type than OpenAI's.
        """
        function = _typed(part, "function", Mapping) or {}
        index, given = _typed(part, "index", int), _typed(part, "id", str) or ""
        name = _typed(function, "name", str) or ""
        call = self._place(index, given, name)
        if call is None:
            call = CallPart(index, given, self._unique(given))
            self.calls.append(call)
        elif given and not call.given:
            call.given, call.id = given, self._unique(given)
        if name != call.name:
            call.name += name
        call.arguments += _typed(function, "arguments", str) or ""
        return call

    def _place(self, index: int | None, given: str, name: str) -> CallPart | None:
        """The call that a part continues; None if it begins one."""
        for call in reversed(self.calls):
            same = index is None or call.index is None or index == call.index
            if given and given == call.given and same:
                return call
            if (given and call.given) or not same:
                continue
            # Without a number of its own, a part with a name follows a call that is whole.
            return None if name and call.name and _whole(call.arguments) else call
        return None

    def _unique(self, given: str) -> str:
        taken = {call.id for call in self.calls}
        wanted = [given] if given else []
        wanted += [f"{given or 'call'}_{number}" for number in range(len(taken) + 1)]
        return next(name for name in wanted if name not in taken)


def _whole(arguments: str) -> bool:
    if not arguments.rstrip().endswith("}"):
        return False
    try:
        read_object(arguments)
    except ValueError:
        return False
    return True


def _typed(held: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field that may be absent or null."""
    value = held.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise TypeError(f"{name} is {type(value).__name__}")
    return value
