"""Sizes of an engine. Imports no JAX."""

from dataclasses import dataclass
from typing import Literal

Drafter = Literal["none", "ngram", "model", "self"]


@dataclass(frozen=True)
class SpeculativeConfig:
    """Tokens that are guessed and verified in one step; what comes out is the same.

    Args:
        drafter: "ngram" looks the last tokens up in the request's own context (prompt lookup),
            "model" decodes with a small model, "self" with the first layers of the model itself.
        tokens: that are guessed at most.
        ngram: of the last tokens, how many must occur before; longer matches go first.
        layers: of the model that guess, for "self"; 0 is all self layers of a decoder-decoder and
            half of a Transformer's.

    Raises:
        ValueError: a value is out of range.
    """

    drafter: Drafter = "none"
    tokens: int = 4
    ngram: tuple[int, int] = (1, 3)
    layers: int = 0

    def __post_init__(self):
        if self.drafter not in ("none", "ngram", "model", "self"):
            raise ValueError(
                f"unknown drafter {self.drafter!r}: choose from none, ngram, model, self"
            )
        if self.tokens < 1 or self.layers < 0:
            raise ValueError(
                f"tokens is {self.tokens} and layers {self.layers}: guess at least 1 token, with "
                "0 layers or more"
            )
        if not 1 <= self.ngram[0] <= self.ngram[1]:
            raise ValueError(f"ngram is {self.ngram}; give two bounds from 1 on, in order")


@dataclass(frozen=True)
class EngineConfig:
    """An engine's sizes; tokens unless said otherwise.

    Args:
        slots: requests that run at once.
        context: longest prompt with what is generated behind it.
        page: tokens of a page.
        pages: of each layer that caches keys and values (a decoder-decoder has one such).
        chunks: prompt tokens that one step reads, smallest first. Several requests share a step
            of the smallest chunk; a longer one belongs to a single request.
        contexts: lengths for which steps are compiled, so that short contexts cost less; the last
            one is `context`, also if it is left out.
        snapshots: recurrent states that are kept beside those of the slots, for prefixes and
            forks; a model without recurrent layers needs none.
        snapshot_every: tokens between snapshots; a multiple of `page`.
        prefix_cache: keep the pages of ended requests for those that begin alike.
        ends: token ids that end any output.
        speculative: guessing ahead.

    Raises:
        ValueError: a value is out of range.
    """

    slots: int = 8
    context: int = 2048
    page: int = 16
    pages: int = 1024
    chunks: tuple[int, ...] = (16, 128)
    contexts: tuple[int, ...] = ()
    snapshots: int = 64
    snapshot_every: int = 64
    prefix_cache: bool = True
    ends: tuple[int, ...] = ()
    speculative: SpeculativeConfig = SpeculativeConfig()

    def __post_init__(self):
        for name in ("slots", "context", "page", "pages", "snapshots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.chunks or list(self.chunks) != sorted(set(self.chunks)) or self.chunks[0] < 1:
            raise ValueError(f"chunks is {self.chunks}; give lengths from 1 on, smallest first")
        if self.context % self.page:
            raise ValueError(f"context {self.context} must be a multiple of page {self.page}")
        if self.chunks[-1] > self.context:
            raise ValueError(
                f"chunks is {self.chunks}; none may be longer than the context of {self.context}"
            )
        if self.snapshot_every < 1 or self.snapshot_every % self.page:
            raise ValueError(
                f"snapshot_every is {self.snapshot_every}; give a multiple of page {self.page}"
            )
        bad = [n for n in self.contexts if n % self.page or not 0 < n <= self.context]
        if bad or list(self.contexts) != sorted(set(self.contexts)):
            raise ValueError(
                f"contexts is {self.contexts}; give multiples of page {self.page}, smallest "
                f"first, up to context {self.context}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Lengths of a table of pages for which steps are compiled, in pages."""
        lengths = (*self.contexts, self.context)
        return tuple(sorted({length // self.page for length in lengths}))

    def pages_of(self, tokens: int) -> int:
        """Pages that hold so many tokens."""
        return -(-tokens // self.page)
