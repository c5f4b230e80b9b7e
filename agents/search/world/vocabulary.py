"""The words of the worlds: a tokenizer in which every word is one token.

Ids: 0 padding, 1 begin, 2 end, then tags, words, sizes and the two halves of names.
A text is words with single spaces between them; a token that starts with a hyphen joins the one
before it. Text of any other form is refused, so text -> ids -> text changes nothing.

Shape letters: T tokens.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int

from loomax.agents.search.grammar.search_r1 import SearchR1Config
from loomax.agents.search.world.config import RELATIONS
from loomax.agents.search.world.names import FIRST, LAST
from loomax.models.tokenizer.bpe import BEGIN, END, PAD

SPECIAL = ("<pad>", "<begin>", "<end>")
TAGS = tuple(
    f"<{slash}{name}>"
    for name in ("think", "search", "information", "answer")
    for slash in ("", "/")
)
WORDS = ("of", "is", "are", "member", "members", "largest", "size", "more", "less")
WORDS += ("nothing", "invalid", ".", "?")
HALVES = re.compile(r"-?[^-]+")
# Observations in words of the vocabulary, and as few as possible.
OBSERVATIONS = SearchR1Config(
    before="<information>",
    after="</information>",
    document="{title} {text}",
    between=" ",
    nothing="nothing",
    invalid="invalid",
)


class Vocabulary:
    """Whole words; a `loomax.models.tokenizer.bpe.Tokenizer`.

    Args:
        sizes: how many there are in the world.
    """

    def __init__(self, sizes: int):
        numbers = tuple(str(size) for size in range(sizes))
        self._words = (*SPECIAL, *TAGS, *WORDS, *RELATIONS, *numbers, *FIRST, *LAST)
        self._ids = {word: number for number, word in enumerate(self._words)}
        self._pieces = tuple(
            "" if word in SPECIAL else word if word.startswith("-") else f" {word}"
            for word in self._words
        )

    @property
    def vocab_size(self) -> int:
        return len(self._words)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without begin, end or padding.

        Raises:
            ValueError: a word is not known, or the spaces are not single ones between words.
        """
        tokens = [half for word in text.split() for half in HALVES.findall(word)]
        ids = [self._ids.get(token, PAD) for token in tokens]
        for token, number in zip(tokens, ids, strict=True):
            if number <= END:
                raise ValueError(f"word {token!r} is not in the vocabulary of {self.vocab_size}")
        if self.decode(np.array(ids, np.int32)) != text:
            raise ValueError(f"{text!r} is not words with single spaces between them")
        return ids

    def id(self, word: str) -> int:
        """The id of one word.

        Raises:
            ValueError: it is not known, or several.
        """
        (number,) = self.ids(word)
        return number

    def encode(
        self, text: str, max_len: int
    ) -> tuple[Int[np.ndarray, " T"], Bool[np.ndarray, " T"]]:
        """Padded ids and the mask of real ones.

        Raises:
            ValueError: a word is not known, or the text needs more than `max_len` tokens.
        """
        ids = self.ids(text)
        if len(ids) > max_len:
            raise ValueError(f"text needs {len(ids)} tokens, at most {max_len} fit: {text!r}")
        out = np.full((max_len,), PAD, np.int32)
        out[: len(ids)] = ids
        return out, np.arange(max_len) < len(ids)

    def decode(self, ids: Int[np.ndarray, " T"]) -> str:
        """The text of ids; begin, end and padding vanish.

        Raises:
            ValueError: an id is out of range.
        """
        return "".join(self.pieces(ids)).removeprefix(" ")

    def pieces(self, ids: Iterable[int] | Int[np.ndarray, " T"]) -> list[str]:
        """What each token adds to a text, its space included."""
        numbers = [int(number) for number in ids]
        for number in numbers:
            if not 0 <= number < self.vocab_size:
                raise ValueError(f"token id {number} is out of range 0 to {self.vocab_size - 1}")
        return [self._pieces[number] for number in numbers]


def prompt_ids(vocabulary: Vocabulary, question: str) -> Sequence[int]:
    """The tokens that a run starts with."""
    return [BEGIN, *vocabulary.ids(question)]
