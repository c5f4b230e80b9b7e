"""Budgets as JSON, to be kept beside the code. Imports no JAX."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from loomax.memory.lifetimes.text_file import read_text
from loomax.memory.report.budget import Entry, Held
from loomax.runtime.config import unknown
from loomax.runtime.files import atomic_write

FORMAT = "loomax-memory-budget-1"
# Of fields that are neither a text nor end with "_bytes".
KINDS = {"versions": dict, "held": list, "count": int, "bytes": int}
Budget = Mapping[tuple[str, str], Entry]


def with_entries(budget: Budget, entries: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    """The budget with these entries added, or put in the place of older ones."""
    return {**budget, **{entry.key: entry for entry in entries}}


def write_budget(budget: Budget, path: str | Path) -> None:
    """Writes a budget in an order and a form that can be read as a difference."""
    entries = [asdict(budget[key]) for key in sorted(budget)]
    atomic_write(path, json.dumps({"format": FORMAT, "entries": entries}, indent=1) + "\n")


def read_budget(path: str | Path) -> dict[tuple[str, str], Entry]:
    """The budget in a file.

    Raises:
        ValueError: the file cannot be read, is damaged, or is something else; it says what.
    """
    text = read_text(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    form = data.get("format") if isinstance(data, dict) else None
    if form != FORMAT:
        raise ValueError(f"{path}: no memory budget: its format is {form!r}, not {FORMAT!r}")
    if not isinstance(data.get("entries"), list):
        raise ValueError(f'{path}: no list "entries"')
    budget: dict[tuple[str, str], Entry] = {}
    for at, item in enumerate(data["entries"], 1):
        where = f"{path}: entry {at}"
        entry = _entry(item, where)
        if entry.key in budget:
            raise ValueError(f"{where}: {entry.name} on {entry.target} is there twice")
        budget[entry.key] = entry
    return budget


def _entry(item: Any, where: str) -> Entry:
    values = _checked(item, Entry, where)
    versions = values.get("versions", {})
    if not all(isinstance(version, str) for version in versions.values()):
        raise ValueError(f"{where}: versions is {versions!r}: a version is a text")
    held = values.get("held", [])
    rows = [_checked(row, Held, f"{where}: held {at}") for at, row in enumerate(held, 1)]
    try:
        return Entry(**{**values, "held": tuple(Held(**row) for row in rows)})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _checked(item: Any, kind: type[Entry] | type[Held], where: str) -> dict[str, Any]:
    """The fields of an object, all there and of their types."""
    if not isinstance(item, dict):
        raise ValueError(f"{where}: {item!r} is not an object")
    needed = {
        each.name: each.default is MISSING and each.default_factory is MISSING
        for each in fields(kind)
    }
    for name, value in item.items():
        if name not in needed:
            raise ValueError(f"{where}: {unknown('field', name, needed)}")
        wanted = int if name.endswith("_bytes") else KINDS.get(name, str)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"{where}: {name} is {value!r}: it must be of type {wanted.__name__}")
    missing = [name for name, must in needed.items() if must and name not in item]
    if missing:
        raise ValueError(f"{where}: no {missing[0]!r}")
    return item
