"""Results by key, for a limited time and in a limited number."""

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Forgets what is too old, and what was used longest ago when there is no more room."""

    def __init__(self, most: int):
        if most < 1:
            raise ValueError(f"a cache of {most} results holds nothing; give at least 1")
        self._most = most
        self._held: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str, now: float) -> Value | None:
        """The result, unless there is none or it is too old."""
        found = self._held.get(key)
        if found is None:
            return None
        if now >= found[0]:
            del self._held[key]
            return None
        self._held.move_to_end(key)
        return found[1]

    def put(self, key: str, value: Value, now: float, ttl_s: float) -> None:
        """Keeps a result for `ttl_s` seconds."""
        if ttl_s <= 0:
            return
        self._held[key] = (now + ttl_s, value)
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
