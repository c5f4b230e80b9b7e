"""loomax search: an index of documents, what it finds, and a server of it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from loomax.runtime.config import fail, parse_options, unknown

DESCRIPTION = """usage: loomax search index FOLDER|FILE.jsonl [--out DIR] [--engine bm25s|tantivy]
       loomax search find "words" [--index DIR] [--k 5]
       loomax search serve [--index DIR] [--host H] [--port N]    (--help after each lists options)

`index` reads text files of a folder, or JSON lines with id, title and text (or contents); a build
that is killed leaves the old index. `serve` speaks Search-R1's /retrieve."""
INDEX = "indexes/default"


@dataclass(frozen=True)
class IndexOptions:
    """What is indexed, and where to."""

    source: Positional[str]
    """a folder of .md, .rst and .txt files, or a .jsonl file"""
    out: str = INDEX
    """folder of the index"""
    engine: Literal["bm25s", "tantivy"] = "bm25s"
    """bm25s: held in memory; tantivy: stays on disk"""


@dataclass(frozen=True)
class FindOptions:
    """What is looked for."""

    query: Positional[str]
    """words"""
    index: str = INDEX
    """folder of the index"""
    k: int = 5
    """documents at most"""


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens."""

    index: str = INDEX
    """folder of the index"""
    host: str = "127.0.0.1"
    """address"""
    port: int = 8000
    """port"""


def run(argv: Sequence[str], prog: str) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        print(DESCRIPTION)
        return
    if argv[0] not in PROGRAMS:
        fail(prog, unknown("command of search", argv[0], PROGRAMS))
    # bm25s computes with JAX if it is there, and must not take an accelerator for it.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    PROGRAMS[argv[0]](argv[1:], f"{prog} {argv[0]}")


def run_index(argv: Sequence[str], prog: str) -> None:
    """loomax search index SOURCE."""
    options = parse_options(IndexOptions, argv, prog, "Indexes documents.")

    from loomax.agents.search.retrieval.build import build_index
    from loomax.agents.search.retrieval.config import IndexConfig
    from loomax.agents.search.retrieval.corpus import read_corpus

    config = IndexConfig(engine=options.engine)
    documents = read_corpus(options.source)
    folder = build_index(options.out, documents, config)
    print(f"{len(documents)} documents, {options.engine}: {folder}")


def run_find(argv: Sequence[str], prog: str) -> None:
    """loomax search find QUERY."""
    options = parse_options(FindOptions, argv, prog, "Searches an index.")

    from loomax.agents.search.retrieval.build import open_index

    if options.k < 1:
        fail(prog, f"k is {options.k}: give at least 1")
    hits = open_index(options.index).search(options.query, options.k)
    for hit in hits:
        start = " ".join(hit.document.text.split())[:80]
        print(f"{hit.score:8.3f}  {hit.document.id}  {hit.document.title}  {start}")
    if not hits:
        print("nothing found")


def run_serve(argv: Sequence[str], prog: str) -> None:
    """loomax search serve."""
    options = parse_options(ServeOptions, argv, prog, "Serves an index over HTTP.")

    import uvicorn

    from loomax.agents.search.retrieval.build import open_index
    from loomax.agents.search.retrieval.server import application

    served = application(open_index(options.index))
    uvicorn.run(served, host=options.host, port=options.port, ws="none")


PROGRAMS: Mapping[str, Callable[[Sequence[str], str], None]] = {
    "index": run_index,
    "find": run_find,
    "serve": run_serve,
}
