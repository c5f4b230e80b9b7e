"""A document, a hit, and the two spellings that files and wires use for a document."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Document:
    """One retrievable text."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Hit:
    """A found document; scores compare within one search only."""

    document: Document
    score: float


def contents(document: Document) -> str:
    """Title and text in one string, as Search-R1 corpora have it: a quoted title, a line, text."""
    return f'"{document.title}"\n{document.text}'


def read_record(record: object, where: str) -> Document:
    """A document from {"id", "contents"} or {"id", "title", "text"}.

    Args:
        where: the place of the record, for the message.

    Raises:
        ValueError: a field is missing or no string.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} is {type(record).__name__}; it must be a JSON object")
    number = record.get("id")
    if isinstance(number, bool) or not isinstance(number, str | int):
        shown = repr(number)[:100]
        raise ValueError(f'{where} has "id" {shown}; it must be a string or an integer')
    if "contents" in record:
        title, text = _split(_string(record, "contents", where))
    elif "text" in record:
        text = _string(record, "text", where)
        title = _string(record, "title", where) if "title" in record else ""
    else:
        shown = ", ".join(map(str, record))[:200]
        raise ValueError(f'{where} has no "contents" and no "text" (it has: {shown})')
    return Document(_string({"id": str(number)}, "id", where), title, text)


def _string(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f'{where} has "{name}" {repr(value)[:100]}; it must be a string')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f'{where}: "{name}" holds half of a surrogate pair') from None
    if "\0" in value:
        # PostgreSQL has no place for it.
        raise ValueError(f'{where}: "{name}" holds a NUL character; remove it')
    return value


def _split(text: str) -> tuple[str, str]:
    """Title and text; the first line is the title, if it is not the only one."""
    first, end, rest = text.partition("\n")
    return (first.removeprefix('"').removesuffix('"'), rest) if end else ("", text)


def finite(score: object, where: str) -> float:
    """A score from a file or a wire.

    Raises:
        ValueError: it is no finite number.
    """
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(f"{where} has score {score!r}; it must be a finite number")
    return float(score)
