"""Text in the embedded byte-level tokenizer, whose tokens may be parts of a character."""

import codecs
from collections.abc import Iterable, Sequence
from typing import Literal

from loomax.agents.search.loop.codec import Reader, TextCodec
from loomax.models.tokenizer.bpe import BEGIN, BytePairTokenizer, default_tokenizer


class ByteTokens:
    """One of the tokenizers that `loomax train lm` knows.

    Args:
        name: "bytes" has 259 ids, "default" 1,024.
    """

    def __init__(self, name: Literal["bytes", "default"]):
        self._tokenizer = BytePairTokenizer([]) if name == "bytes" else default_tokenizer()

    @property
    def longest(self) -> int:
        """Bytes of the longest token."""
        return self._tokenizer.longest

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without specials."""
        return self._tokenizer.ids(text)

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; nothing for specials.

        Raises:
            ValueError: there is no such token.
        """
        return self._tokenizer.bytes_of(token)

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
