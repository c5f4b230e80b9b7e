"""What the server needs of a tokenizer, and text from tokens as they arrive."""

import codecs
from typing import Protocol, runtime_checkable

from loomax.agents.search.loop.codec import Words


@runtime_checkable
class Tokens(Protocol):
    """Text to token ids, and what each token adds to a text."""

    @property
    def longest(self) -> int:
        """Bytes of the longest token, by which texts are refused before they are encoded.

        0 if it is not known: every text is encoded.
        """
        ...

    def ids(self, text: str) -> list[int]:
        """Token ids, without specials.

        Raises:
            ValueError: the text has none.
        """
        ...

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for, in UTF-8; possibly a part of a character."""
        ...


class WordTokens:
    """A tokenizer whose tokens are whole pieces of text."""

    longest = 0

    def __init__(self, words: Words):
        self._words = words

    def ids(self, text: str) -> list[int]:
        """See `Tokens`."""
        return self._words.ids(text)

    def bytes_of(self, token: int) -> bytes:
        """See `Tokens`."""
        return "".join(self._words.pieces([token])).encode()


class Decoder:
    """Joins the bytes of tokens to text; holds back a character until it is whole."""

    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, held: bytes) -> str:
        """The characters that these bytes complete."""
        return self._decoder.decode(held)

    def finish(self) -> str:
        """What an unfinished character is shown as."""
        return self._decoder.decode(b"", True)
