"""Which token is the last one."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Pieces(Protocol):
    """A tokenizer that tells what each token adds to a text."""

    def pieces(self, ids: Iterable[int]) -> list[str]: ...


class Stops:
    """Reads the tokens of one output.

    Args:
        strings: that end it.
        ends: token ids that do.
        words: turns tokens into text.

    Raises:
        ValueError: there are strings but nothing to turn tokens into text.
    """

    def __init__(self, strings: Sequence[str], ends: Sequence[int], words: Pieces | None):
        if strings and words is None:
            raise ValueError(
                f"stops {tuple(strings)} are strings and the engine has no tokenizer; give it one "
                "as `words`, or no stops"
            )
        self._strings, self._ends, self._words = tuple(filter(None, strings)), set(ends), words
        self._longest = max(map(len, self._strings), default=0)
        self._text = ""

    def last(self, token: int) -> bool:
        """Whether the output ends with this token."""
        if token in self._ends:
            return True
        if not self._strings or self._words is None:
            return False
        # What is older than the longest stop cannot be a part of one that ends here.
        recent = self._text[max(0, len(self._text) - self._longest + 1) :]
        self._text = recent + "".join(self._words.pieces([token]))
        return any(stop in self._text for stop in self._strings)
