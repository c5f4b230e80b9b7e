"""Documents as token ids.

Shape letters: T tokens, V ids.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from loomax.models.tokenizer.bpe import (
    BEGIN,
    END,
    FIRST_BYTE,
    MERGES,
    default_tokenizer,
    read_merges,
)

Encode = Callable[[str], Int[np.ndarray, " T"]]


def encoder(name: str) -> Encode:
    """Text to BEGIN, its ids, END."""

    def framed(ids) -> Int[np.ndarray, " T"]:
        return np.concatenate([[BEGIN], ids, [END]]).astype(np.int32)

    if name == "bytes":
        return lambda text: framed(np.frombuffer(text.encode(), np.uint8) + np.int32(FIRST_BYTE))
    ids_of = default_tokenizer().ids
    return lambda text: framed(np.array(ids_of(text), np.int32))


def byte_lengths(name: str) -> Int[np.ndarray, " V"]:
    """Bytes that each id stands for; none for specials."""
    lengths = [0] * FIRST_BYTE + [1] * 256
    for left, right in read_merges(MERGES) if name != "bytes" else ():
        lengths.append(lengths[left] + lengths[right])
    size = len(lengths) if name == "bytes" else default_tokenizer().vocab_size
    return np.pad(np.array(lengths, np.int32), (0, size - len(lengths)))
