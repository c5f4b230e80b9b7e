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
from loomax.agents.search.retrieval.sealed import verify
from loomax.agents.search.retrieval.versions import again, publish, read_current, version_of

ENGINES = {"bm25s": bm25, "tantivy": tantivy_index}
# tantivy has a meta.json of its own.
META = "loomax.json"


def build_index(
    root: str | Path,
    documents: Sequence[Document],
    config: IndexConfig | None = None,
    *,
    wait: bool = False,
) -> Path:
    """Makes an index of these documents the current one of `root`; a build that dies changes none.

    Args:
        wait: for another process that builds there, instead of refusing.

    Returns:
        The folder of the version.

    Raises:
        ValueError: there are no documents, two share an id, or the engine is not installed; or
            another process builds there.
        OSError: the folder cannot be written, or the disk is full.
    """
    config = config or IndexConfig()
    check_corpus(documents, "the corpus")

    def fill(folder: Path) -> None:
        ENGINES[config.engine].build(folder, documents, config)
        meta = asdict(config) | {"documents": len(documents)}
        (folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")

    return publish(Path(root), corpus_version(documents, config), fill, wait=wait)


def open_index(root: str | Path) -> Retriever:
    """The current version of an index folder; it stays the same whatever is built meanwhile.

    Raises:
        ValueError: there is none, it is damaged, or its engine is not installed.
    """
    return read_current(Path(root), _open)


def _open(folder: Path) -> Retriever:
    meta = folder / META
    try:
        verify(folder, digests=False)
        engine = json.loads(meta.read_bytes())["engine"]
        # One that is held in memory is read to its end anyway.
        verify(folder, digests=engine == "bm25s")
        load = ENGINES[engine].load
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        told = str(error) if isinstance(error, ValueError) else f"{meta} cannot be read"
        raise ValueError(_damaged(folder, told)) from None
    try:
        return load(folder, version_of(folder))
    except (ValueError, OSError):
        # The engine is not installed, or the version has just been replaced.
        raise
    except Exception as error:
        raise ValueError(_damaged(folder, f"{type(error).__name__}: {error}")) from None


def _damaged(folder: Path, why: str) -> str:
    return f"{folder} is damaged: {why}: build it again with `{again(folder.parent)}`"


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
