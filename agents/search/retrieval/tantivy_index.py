"""BM25 on disk by tantivy: little memory, for corpora that do not fit into it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.document import Document, Hit
from loomax.agents.search.retrieval.retriever import check_search
from loomax.agents.search.retrieval.words import indexed_words, words

WRITER_BYTES = 64 * 2**20


def _library() -> Any:
    try:
        import tantivy
    except ImportError:
        raise ValueError(
            "engine 'tantivy' needs the package tantivy: pip install 'loomax[tantivy]'"
        ) from None
    return tantivy


def _schema() -> Any:
    builder = _library().SchemaBuilder()
    # Our own words, joined by spaces: every engine then finds the same.
    builder.add_text_field("words", tokenizer_name="whitespace", index_option="freq")
    builder.add_bytes_field("document", stored=True, indexed=False)
    return builder.build()


class TantivyRetriever:
    """An index on disk.

    Args:
        folder: what `build` filled.
    """

    def __init__(self, folder: Path, version: str):
        self._tantivy, self._schema, self._version = _library(), _schema(), version
        self._searcher = self._tantivy.Index(self._schema, path=str(folder)).searcher()

    @property
    def version(self) -> str:
        return self._version

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """See `Retriever`."""
        check_search(query, k)
        terms = [
            (
                self._tantivy.Occur.Should,
                self._tantivy.Query.term_query(self._schema, "words", word, "freq"),
            )
            for word in words(query)
        ]
        if not terms:
            return ()
        found = self._searcher.search(self._tantivy.Query.boolean_query(terms), k).hits
        return tuple(self._hit(score, address) for score, address in found)

    def _hit(self, score: float, address: Any) -> Hit:
        held = self._searcher.doc(address).get_first("document")
        return Hit(Document(*json.loads(held)), float(score))


def build(folder: Path, documents: Sequence[Document], config: IndexConfig) -> None:
    """Writes an index into an empty folder."""
    tantivy = _library()
    index = tantivy.Index(_schema(), path=str(folder))
    # One thread: the same documents give the same segments.
    writer = index.writer(heap_size=WRITER_BYTES, num_threads=1)
    for document in documents:
        row = tantivy.Document()
        row.add_text("words", " ".join(indexed_words(document, config.title_boost)))
        row.add_bytes("document", json.dumps([document.id, document.title, document.text]).encode())
        writer.add_document(row)
    writer.commit()
    writer.wait_merging_threads()


def load(folder: Path, version: str) -> TantivyRetriever:
    """Opens an index."""
    return TantivyRetriever(folder, version)
