"""The tokens of a run and who wrote them.

A run is kept as token ids and is never decoded and encoded again: the same text may have other
ids, and then what is trained on is not what was sampled.

Shape letters: T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

Source = Literal["prompt", "model", "observation"]


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one source."""

    tokens: tuple[int, ...]
    source: Source


@dataclass(frozen=True)
class Transcript:
    """All tokens of a run; immutable, so a fork is the same object."""

    spans: tuple[Span, ...] = ()

    def add(self, tokens: Sequence[int], source: Source) -> "Transcript":
        """A transcript with these tokens at the end."""
        return Transcript((*self.spans, Span(tuple(tokens), source))) if len(tokens) else self

    def __len__(self) -> int:
        return sum(len(span.tokens) for span in self.spans)

    @property
    def tokens(self) -> Int[np.ndarray, " T"]:
        return np.array([token for span in self.spans for token in span.tokens], np.int32)

    @property
    def written(self) -> Bool[np.ndarray, " T"]:
        """True for what the model wrote: the loss leaves the rest out (Search-R1, section 3.2)."""
        return np.array([span.source == "model" for span in self.spans for _ in span.tokens], bool)


def clip(tokens: Sequence[int], most: int, after: Sequence[int]) -> tuple[int, ...]:
    """An observation of at most `most` tokens that still ends with `after`, its closing tag.

    Raises:
        ValueError: `after` alone is longer.
    """
    if len(tokens) <= most:
        return tuple(tokens)
    if len(after) > most:
        raise ValueError(f"{most} tokens cannot hold the {len(after)} that close an observation")
    return (*tokens[: most - len(after)], *after)
