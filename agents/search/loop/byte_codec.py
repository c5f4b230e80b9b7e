"""Text in the embedded byte-level tokenizer, whose tokens may be parts of a character."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Literal

from loomax.agents.search.loop.codec import Reader, TextCodec
from loomax.models.tokenizer.bpe import (
    BEGIN,
    FIRST_BYTE,
    MERGES,
    BytePairTokenizer,
    default_tokenizer,
    read_merges,
)


class ByteTokens:
    """One of the tokenizers that `loomax train lm` knows.

    Args:
        name: "bytes" has 259 ids, "default" 1,024.
    """

    def __init__(self, name: Literal["bytes", "default"]):
        merges = read_merges(MERGES) if name == "default" else []
        self._tokenizer = BytePairTokenizer([]) if name == "bytes" else default_tokenizer()
        self._bytes = [b""] * FIRST_BYTE + [bytes([number]) for number in range(256)]
        for left, right in merges:
            self._bytes.append(self._bytes[left] + self._bytes[right])

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without specials."""
        return self._tokenizer.ids(text)

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; nothing for specials.

        Raises:
            ValueError: there is no such token.
        """
        if not 0 <= token < len(self._bytes):
            raise ValueError(f"token id {token} is out of range 0 to {len(self._bytes) - 1}")
        return self._bytes[token]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """What each token adds to a text; a part of a character is U+FFFD."""
        return [self.bytes_of(token).decode("utf-8", "replace") for token in ids]


class ByteReader:
    """Gives characters when they are whole."""

    def __init__(self, tokens: ByteTokens):
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, tokens: Sequence[int]) -> Sequence[str]:
        """See `Reader`."""
        return (self._decoder.decode(b"".join(map(self._tokens.bytes_of, tokens))),)

    def finish(self) -> Sequence[str]:
        """See `Reader`."""
        return (self._decoder.decode(b"", True),)


class ByteCodec(TextCodec):
    """`TextCodec` for these tokenizers; arguments as there."""

    def __init__(self, tokens: ByteTokens, *, begin: Sequence[int] = (BEGIN,), question: str = ""):
        super().__init__(tokens, begin=begin, question=question)
        self._tokens = tokens

    def reader(self) -> Reader:
        """See `Codec`."""
        return ByteReader(self._tokens)
