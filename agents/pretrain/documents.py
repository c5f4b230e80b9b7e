"""Documents of files: text, JSON lines and ArrayRecord, read one at a time by number.

Every document is read once before anything compiles, so that what cannot be read is named then,
and so that its hash can put it on its side of the held-out split.
"""

import hashlib
import json
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grain

from loomax.agents.pretrain.config import DataConfig

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl"}
SUFFIXES |= {".array_record": "arrayrecord", ".arrayrecord": "arrayrecord"}
Reader = Callable[[], str]


@dataclass(frozen=True)
class Documents:
    """What there is to train on and to score.

    Args:
        readers: one for each document, in the order of files and of places within them.
        train, held_out: numbers of documents.
        fingerprint: of all documents and their sides; a run that is resumed must see the same.
    """

    readers: Sequence[Reader]
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    fingerprint: str

    def __getitem__(self, number: int) -> str:
        return self.readers[number]()


def load_documents(config: DataConfig) -> Documents:
    """Finds, reads and splits all documents.

    Raises:
        ValueError: there are none, or one cannot be read (its file and line are named).
    """
    readers = [
        reader
        for path in find_files(config)
        for reader in readers_of(path, format_of(path, config), config)
    ]
    total, sides = hashlib.blake2b(digest_size=16), ([], [])
    for number, read in enumerate(readers):
        digest = hashlib.blake2b(read().encode(), digest_size=8).digest()
        # By content: a document that occurs twice cannot lie on both sides.
        side = int.from_bytes(digest) < config.held_out * 2**64
        total.update(digest + bytes([side]))
        sides[side].append(number)
    train, held_out = map(tuple, sides)
    if not train:
        raise ValueError(
            f"all {len(readers)} documents of {place(config)} are held out: lower data.held_out "
            f"({config.held_out})"
        )
    if config.held_out and not held_out:
        raise ValueError(
            f"none of the {len(readers)} documents of {place(config)} fell into the held-out share "
            f"of {config.held_out}: raise data.held_out, give more documents, or set 0"
        )
    return Documents(readers, train, held_out, total.hexdigest())


def place(config: DataConfig) -> Path:
    """The file or folder that `data.path` stands for."""
    return Path(config.path or sysconfig.get_paths()["stdlib"]).expanduser()


def find_files(config: DataConfig) -> list[Path]:
    """The file itself, or the files of the folder that match, by name.

    Raises:
        ValueError: there are none.
    """
    root = place(config)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise ValueError(f"data.path {root} does not exist")
    found = sorted(path for path in root.glob(config.files) if path.is_file())
    if not found:
        raise ValueError(f"no file in {root} matches data.files {config.files!r}")
    return found


def format_of(path: Path, config: DataConfig) -> str:
    """The format of a file."""
    if config.format != "auto":
        return config.format
    return SUFFIXES.get(path.suffix.lower(), "text")


def readers_of(path: Path, kind: str, config: DataConfig) -> list[Reader]:
    """One reader for each document of a file.

    Raises:
        ValueError: the file is empty or damaged.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: remove it, or leave it out by data.files")
    if kind == "jsonl":
        return _lines(path, config.field)
    if kind == "arrayrecord":
        return _records(path)
    return [partial(_text, path)]


def _decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not UTF-8 (byte {error.start} is 0x{raw[error.start]:02x}): convert it, "
            "or leave it out by data.files"
        ) from None


def _text(path: Path) -> str:
    return _decode(path.read_bytes(), str(path))


def _lines(path: Path, field: str) -> list[Reader]:
    """Readers of the lines that are not blank."""
    readers, start = [], 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                readers.append(partial(_line, path, start, number, field))
            start += len(line)
    if not readers:
        raise ValueError(f"{path} has blank lines only: remove it, or leave it out by data.files")
    return readers


def _line(path: Path, start: int, number: int, field: str) -> str:
    where = f"{path}:{number}"
    with open(path, "rb") as file:
        file.seek(start)
        raw = _decode(file.readline(), where)
    try:
        held: Any = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(held, dict) or field not in held:
        shown = ", ".join(held) if isinstance(held, dict) else type(held).__name__
        raise ValueError(f"{where} has no field {field!r} (it has: {shown}); set data.field")
    text = held[field]
    if not isinstance(text, str):
        raise ValueError(f"{where}: field {field!r} is {text!r}; it must be a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: field {field!r} holds half of a surrogate pair") from None
    return text


def _records(path: Path) -> list[Reader]:
    try:
        source = grain.sources.ArrayRecordDataSource(str(path))
        return [partial(_record, path, source, number) for number in range(len(source))]
    except RuntimeError as error:
        raise ValueError(f"{path} is not a whole ArrayRecord file: {error}".rstrip(": ")) from None


def _record(path: Path, source: Any, number: int) -> str:
    try:
        raw = source[number]
    except RuntimeError as error:
        raise ValueError(f"{path}: record {number} cannot be read: {error}".rstrip(": ")) from None
    return _decode(raw, f"{path}: record {number}")
