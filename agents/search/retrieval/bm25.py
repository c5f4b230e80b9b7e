"""BM25 in memory by bm25s, the default engine.

BM25 (Robertson and Zaragoza 2009) in Lucene's form: the sum over words of
ln(1 + (N - df + 0.5) / (df + 0.5)) tf / (tf + k1 (1 - b + b length / mean length)), with all
weights computed when indexing (bm25s, arXiv 2407.03618).
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.corpus import read_corpus, write_lines
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.search.retrieval.retriever import check_search
from loomax.agents.search.retrieval.words import indexed_words, words

DOCUMENTS = "documents.jsonl"


def _library() -> Any:
    # Not at the top: bm25s runs JAX when it is imported, which takes hold of the accelerator.
    # A process that only retrieves sets JAX_PLATFORMS=cpu before.
    import bm25s

    # It sets its own logger to DEBUG.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s


def weigh(documents: Sequence[Document], config: IndexConfig) -> Any:
    """The bm25s index of documents: its `scores` are a sparse matrix, one column a word.

    Raises:
        ValueError: there is no word in them.
    """
    index = _library().BM25(k1=config.k1, b=config.b, method="lucene", backend="numpy")
    tokens = [indexed_words(document, config.title_boost) for document in documents]
    if not any(tokens):
        raise ValueError("no document holds a word; there is nothing to search for")
    index.index(tokens, show_progress=False)
    return index


def best(scores: Float[np.ndarray, " N"], k: int) -> Int[np.ndarray, " K"]:
    """The highest positive scores, best first; of equal ones the earlier comes first."""
    places = np.flatnonzero(scores > 0)
    if len(places) > k:
        least = np.partition(scores[places], -k)[-k]
        places = places[scores[places] >= least]
    return places[np.argsort(-scores[places], kind="stable")][:k]


class Bm25Retriever:
    """An index in memory.

    Args:
        documents: in the order in which they were indexed.
        index: what `weigh` made of them.
    """

    def __init__(self, documents: Sequence[Document], index: Any, version: str):
        self._documents, self._index, self._version = documents, index, version

    @property
    def version(self) -> str:
        return self._version

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """See `Retriever`."""
        check_search(query, k)
        known = self._index.get_tokens_ids(words(query))
        if not known:
            return ()
        scores = self._index.get_scores_from_ids(known)
        return tuple(Hit(self._documents[place], float(scores[place])) for place in best(scores, k))


def build(folder: Path, documents: Sequence[Document], config: IndexConfig) -> None:
    """Writes an index into an empty folder."""
    weigh(documents, config).save(folder, show_progress=False)
    (folder / DOCUMENTS).write_text(write_lines(documents), encoding="utf-8")


def load(folder: Path, version: str) -> Bm25Retriever:
    """Reads an index."""
    index = _library().BM25.load(folder)
    return Bm25Retriever(read_corpus(folder / DOCUMENTS), index, version)
