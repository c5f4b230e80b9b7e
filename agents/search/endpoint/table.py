"""Numbers for texts, so that agents may go on speaking of tokens.

An endpoint shows no token ids. What it streams, and words of what it is sent, are numbered as they
come; about a token each, so that limits in tokens keep their size.
"""

from collections.abc import Iterable

from loomax.models.tokenizer.bpe import words_of


class Table:
    """Texts and their numbers; a `Words`. It keeps every text that it has seen once."""

    def __init__(self):
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of one text."""
        if text not in self._numbers:
            self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return self._numbers[text]

    def ids(self, text: str) -> list[int]:
        """The numbers of a text's words."""
        return [self.number(word) for word in words_of(text)]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The texts of numbers."""
        return [self._texts[int(number)] for number in ids]
