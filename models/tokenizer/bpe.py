"""A byte-level byte-pair tokenizer: lossless for any UTF-8 text, no download.

Ids: 0 padding, 1 begin, 2 end, 3 .. 258 the bytes, then one id per merge in order of training.
Text is first cut into words, each with the space before it, so merges never cross words.
(Sennrich et al. 2016; byte level as in GPT-2.) The work grows with the length of a word, not with
its square, and what is remembered is bounded, so text may come from anybody.

Shape letters: T tokens.
"""

import re
from functools import cache, lru_cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

PAD, BEGIN, END = 0, 1, 2
FIRST_BYTE = 3
FIRST_MERGE = FIRST_BYTE + 256

# A letter run or single digits or a run of anything else, each with at most one leading space.
WORD = re.compile(r" ?[^\W\d_]+| ?\d| ?(?:[^\w\s]|_)+|\s+", re.UNICODE)
MERGES = Path(__file__).with_name("merges.txt")
# Ids of the last words are kept, if these are short: at most about 20 MB.
CACHED_WORDS, CACHED_LETTERS = 16_384, 24
# Of a text, in an error.
SHOWN = 80


@runtime_checkable
class Tokenizer(Protocol):
    """What a policy needs of a tokenizer; adapters of others need no more."""

    @property
    def vocab_size(self) -> int: ...

    def encode(
        self, text: str, max_len: int
    ) -> tuple[Int[np.ndarray, " T"], Bool[np.ndarray, " T"]]: ...

    def decode(self, ids: Int[np.ndarray, " T"]) -> str: ...


def words_of(text: str) -> list[str]:
    """Cuts text into words; joined they give the text again."""
    return WORD.findall(text)


class BytePairTokenizer:
    """Applies a table of merges, earlier merges first.

    Args:
        merges: pairs of ids; pair i becomes id FIRST_MERGE + i.
        size: the vocabulary size that models are built for, at least what the merges need.
    """

    def __init__(self, merges: list[tuple[int, int]], size: int | None = None):
        needed = FIRST_MERGE + len(merges)
        self.vocab_size = needed if size is None else size
        if self.vocab_size < needed:
            raise ValueError(f"vocabulary size {size} is below the {needed} ids of the merges")
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._bytes = [b""] * FIRST_BYTE + [bytes([i]) for i in range(256)]
        for left, right in merges:
            self._bytes.append(self._bytes[left] + self._bytes[right])
        # Of bytes: a text of B bytes has at least B / longest tokens.
        self.longest = max(map(len, self._bytes))
        self._remembered = lru_cache(maxsize=CACHED_WORDS)(self._merged)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without specials or padding."""
        return [i for word in words_of(text) for i in self._word_ids(word)]

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; nothing for specials.

        Raises:
            ValueError: there is no such token.
        """
        if not 0 <= token < len(self._bytes):
            raise ValueError(f"token id {token} is out of range 0 to {len(self._bytes) - 1}")
        return self._bytes[token]

    def encode(
        self, text: str, max_len: int, *, begin: bool = False
    ) -> tuple[Int[np.ndarray, " T"], Bool[np.ndarray, " T"]]:
        """Padded ids and the mask of real ones.

        Raises:
            ValueError: if the text needs more than `max_len` tokens; it is never cut silently.
        """
        ids = [BEGIN] * begin + self.ids(text)
        if len(ids) > max_len:
            raise ValueError(
                f"text needs {len(ids)} tokens, at most {max_len} fit; shorten it or raise the "
                f"model's text_tokens: {text[:SHOWN]!r}{'...' * (len(text) > SHOWN)}"
            )
        out = np.full((max_len,), PAD, np.int32)
        out[: len(ids)] = ids
        return out, np.arange(max_len) < len(ids)

    def decode(self, ids: Int[np.ndarray, " T"]) -> str:
        """The text of ids; specials and padding vanish, broken UTF-8 becomes U+FFFD.

        Raises:
            ValueError: if an id is out of the table.
        """
        known = len(self._bytes)
        wrong = [int(i) for i in ids if not 0 <= i < known]
        if wrong:
            raise ValueError(f"token id {wrong[0]} is out of range, the table has {known}")
        return b"".join(self._bytes[i] for i in ids).decode("utf-8", errors="replace")

    def _word_ids(self, word: str) -> tuple[int, ...]:
        return self._remembered(word) if len(word) <= CACHED_LETTERS else self._merged(word)

    def _merged(self, word: str) -> tuple[int, ...]:
        """The earliest merge that applies goes first, and each from left to right.

        Ids are linked, and the places of each merge are collected. What a merge forms is only in
        later merges, so no list grows once its turn has come.
        """
        ids: list[int | None] = [FIRST_BYTE + byte for byte in word.encode("utf-8")]
        after, before = list(range(1, len(ids) + 1)), list(range(-1, len(ids) - 1))
        places: dict[int, list[int]] = {}
        ranks: list[int] = []

        def note(left: int) -> None:
            rank = self._ranks.get((ids[left], ids[after[left]]))
            if rank is not None:
                if rank not in places:
                    places[rank] = []
                    heappush(ranks, rank)
                places[rank].append(left)

        for left in range(len(ids) - 1):
            note(left)
        while ranks:
            rank = heappop(ranks)
            for left in sorted(places.pop(rank)):
                right = after[left]
                # One of the two may have been merged meanwhile.
                if right == len(ids) or self._ranks.get((ids[left], ids[right])) != rank:
                    continue
                ids[left], ids[right] = FIRST_MERGE + rank, None
                after[left] = after[right]
                if after[left] < len(ids):
                    before[after[left]] = left
                    note(left)
                if before[left] >= 0:
                    note(before[left])
        return tuple(i for i in ids if i is not None)


def replace_pair(ids: list[int], pair: tuple[int, int], merged: int) -> list[int]:
    """Replaces each occurrence of a pair, left to right."""
    out: list[int] = []
    for i in ids:
        if out and (out[-1], i) == pair:
            out[-1] = merged
        else:
            out.append(i)
    return out


def read_merges(path: Path) -> list[tuple[int, int]]:
    """Merges from a text file of one "left right" pair of ids per line."""
    lines = path.read_text(encoding="ascii").splitlines()
    return [(int(left), int(right)) for left, right in (line.split() for line in lines if line)]


@cache
def default_tokenizer() -> BytePairTokenizer:
    """The embedded tokenizer: 1,024 ids, trained by `loomax.models.tokenizer.train`."""
    return BytePairTokenizer(read_merges(MERGES), size=1024)
