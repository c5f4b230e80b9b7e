"""Prompt lookup: what followed the last tokens when they occurred before (Saxena, 2023)."""

from collections.abc import Sequence


class Lookup:
    """An index of one growing sequence.

    Args:
        least, most: tokens that must match; longer matches go first.
    """

    def __init__(self, least: int, most: int):
        self._sizes = range(most, least - 1, -1)
        # Where the newest run of some tokens ends that has something behind it.
        self._ends: dict[tuple[int, ...], int] = {}
        self._read = 0

    def guess(self, tokens: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that may follow `tokens`, which only ever grow."""
        for end in range(self._read + 1, len(tokens)):
            for size in self._sizes:
                if size <= end:
                    self._ends[tuple(tokens[end - size : end])] = end
        self._read = max(self._read, len(tokens) - 1)
        for size in self._sizes:
            end = self._ends.get(tuple(tokens[len(tokens) - size :]))
            if size <= len(tokens) and end is not None:
                return list(tokens[end : end + count])
        return []
