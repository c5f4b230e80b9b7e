"""Builds and opens an index folder, whichever engine it is for."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from loomax.agents.search.retrieval import bm25, tantivy_index
from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.corpus import check_corpus, corpus_version
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.retrieval.retriever import Retriever
from loomax.agents.search.retrieval.versions import current, publish

ENGINES = {"bm25s": bm25, "tantivy": tantivy_index}
# tantivy has a meta.json of its own.
META = "loomax.json"


def build_index(
    root: str | Path, documents: Sequence[Document], config: IndexConfig | None = None
) -> Path:
    """Makes an index of these documents the current one of `root`; a build that dies changes none.

    Returns:
        The folder of the version.

    Raises:
        ValueError: there are no documents, two share an id, or the engine is not installed.
    """
    config = config or IndexConfig()
    check_corpus(documents, "the corpus")

    def fill(folder: Path) -> None:
        ENGINES[config.engine].build(folder, documents, config)
        meta = asdict(config) | {"documents": len(documents)}
        (folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")

    return publish(Path(root), corpus_version(documents, config), fill)


def open_index(root: str | Path) -> Retriever:
    """The current version of an index folder.

    Raises:
        ValueError: there is none, or its engine is not installed.
    """
    folder = current(Path(root))
    engine = json.loads((folder / META).read_text(encoding="utf-8"))["engine"]
    return ENGINES[engine].load(folder, folder.name)


def memory_index(
    documents: Sequence[Document], config: IndexConfig | None = None
) -> bm25.Bm25Retriever:
    """A bm25s index that is never written.

    Raises:
        ValueError: there are no documents, two share an id, or the engine is another one.
    """
    config = config or IndexConfig()
    if config.engine != "bm25s":
        raise ValueError(f"engine {config.engine!r} is not held in memory; take 'bm25s'")
    check_corpus(documents, "the corpus")
    version = corpus_version(documents, config)
    return bm25.Bm25Retriever(documents, bm25.weigh(documents, config), version)
