"""Corpora: documents of a folder or a JSONL file, and their version."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.document import Document, read_record

TEXT = (".md", ".rst", ".txt")
LINES = (".jsonl", ".ndjson")
# To be raised when words are cut or files are written in another way.
FORMAT = 1


def read_corpus(source: str | Path) -> list[Document]:
    """Documents of a JSONL file, or one for each text file below a folder (id: its path).

    Raises:
        ValueError: there are none, two share an id, or one cannot be read (its place is named).
    """
    source = Path(source).expanduser()
    if source.is_dir():
        documents = list(_folder(source))
    elif source.is_file() and source.suffix.lower() in LINES:
        documents = list(_lines(source))
    elif source.is_file():
        raise ValueError(f"{source} is no corpus: give a folder or a file that ends in .jsonl")
    else:
        raise ValueError(f"{source} does not exist; give a folder or a .jsonl file")
    check_corpus(documents, str(source))
    return documents


def check_corpus(documents: Sequence[Document], where: str) -> None:
    """Raises ValueError if there are no documents, or two with one id."""
    if not documents:
        raise ValueError(f"{where} holds no documents ({', '.join(TEXT + LINES)} are read)")
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise ValueError(f"{where} has two documents with id {document.id!r}; ids are unique")
        seen.add(document.id)


def corpus_version(documents: Iterable[Document], config: IndexConfig) -> str:
    """A digest of all documents, in order, and of how they are indexed."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps([FORMAT, asdict(config)], sort_keys=True).encode())
    for document in documents:
        digest.update(json.dumps([document.id, document.title, document.text]).encode())
    return digest.hexdigest()


def write_lines(documents: Iterable[Document]) -> str:
    """The JSONL text that `read_corpus` reads."""
    return "".join(
        json.dumps(document.__dict__, ensure_ascii=False) + "\n" for document in documents
    )


def _folder(root: Path) -> Iterator[Document]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not path.is_file() or any(part.startswith(".") for part in Path(name).parts):
            continue
        if path.suffix.lower() in LINES:
            yield from _lines(path)
        elif path.suffix.lower() in TEXT:
            record = {"id": name, "title": path.stem, "text": _decode(path.read_bytes(), str(path))}
            yield read_record(record, str(path))


def _lines(path: Path) -> Iterator[Document]:
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            where = f"{path}:{number}"
            if not raw.strip():
                continue
            try:
                record = json.loads(_decode(raw, where))
            except json.JSONDecodeError as error:
                raise ValueError(f"{where} is not JSON: {error}") from None
            yield read_record(record, where)


def _decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 (byte {error.start}): convert it") from None
