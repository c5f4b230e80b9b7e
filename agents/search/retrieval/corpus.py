"""Corpora: documents of a folder or a JSONL file, and their version."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from loomax.agents.search.retrieval.config import IndexConfig
from loomax.agents.search.retrieval.document import Document, read_record
from loomax.agents.search.retrieval.versions import is_index

TEXT = (".md", ".rst", ".txt")
LINES = (".jsonl", ".ndjson")
FIELDS = {"id", "contents", "text"}
# To be raised when words are cut or files are written in another way.
FORMAT = 1


def ignore(_: str) -> None:
    """For those who need not be told."""


def read_corpus(
    source: str | Path, *, skip: Collection[Path] = (), note: Callable[[str], None] = ignore
) -> list[Document]:
    """Documents of a JSONL file, or one for each text file below a folder (id: its path).

    Of a folder, hidden files, indexes and runs are left out, and JSONL files whose records are no
    documents, such as logs.

    Args:
        skip: folders below a source that are left out, too.
        note: is told of JSONL files that are left out.

    Raises:
        ValueError: there are none, two share an id, or one cannot be read (its place is named).
        OSError: a file or a folder cannot be read.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        documents = list(_folder(source, {path.resolve() for path in skip}, note))
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


def _folder(root: Path, skip: Collection[Path], note: Callable[[str], None]) -> Iterator[Document]:
    for path in sorted(_files(root, skip)):
        if path.suffix.lower() in LINES:
            if _holds_documents(path):
                yield from _lines(path)
            else:
                note(f"left out {path}: its records are no documents")
        elif path.suffix.lower() in TEXT:
            name = _checked(path.relative_to(root).as_posix())
            record = {"id": name, "title": path.stem, "text": _decode(path.read_bytes(), str(path))}
            yield read_record(record, str(path))


def _checked(name: str) -> str:
    """A name that is text; file systems take any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name of {ascii(name)} is not UTF-8: rename it") from None
    return name


def _files(root: Path, skip: Collection[Path]) -> Iterator[Path]:
    """Regular files below a folder, but for what Loomax itself writes, and what is hidden."""

    def wanted(folder: Path) -> bool:
        hidden = folder.name.startswith(".")
        return not (hidden or is_index(folder) or _is_run(folder) or folder.resolve() in skip)

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if wanted(Path(place, name))]
        found = (Path(place, name) for name in files if not name.startswith("."))
        yield from (path for path in found if path.is_file())


def _is_run(folder: Path) -> bool:
    log, kept = folder / "metrics.jsonl", folder / "checkpoints"
    return (folder / "config.json").is_file() and (log.is_file() or kept.is_dir())


def _holds_documents(path: Path) -> bool:
    """Whether the first record has anything of a document. What is no record is for `_lines`."""
    with open(path, "rb") as file:
        first = next((raw for raw in file if raw.strip()), b"")
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return not isinstance(record, Mapping) or bool(FIELDS & set(record))


def _lines(path: Path) -> Iterator[Document]:
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            where = f"{path}:{number}"
            if not raw.strip():
                continue
            try:
                record = json.loads(_decode(raw, where))
            except RecursionError:
                raise ValueError(f"{where} is nested too deeply") from None
            except json.JSONDecodeError as error:
                raise ValueError(f"{where} is not JSON: {error}") from None
            yield read_record(record, where)


def _decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 (byte {error.start}): convert it") from None
