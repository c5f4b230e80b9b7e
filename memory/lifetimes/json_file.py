"""Traces as JSON: `{"records": [{"id": .., "size": .., "birth": .., "death": ..}, ...]}`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.text_file import read_text
from loomax.memory.lifetimes.trace import Trace
from loomax.runtime.config import unknown
from loomax.runtime.files import atomic_write

DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(Lifetime)
    if field.default is not dataclasses.MISSING
}
NUMBERS = ("size", "birth", "death", "alignment")
FIELDS = [field.name for field in dataclasses.fields(Lifetime)]


def to_json(trace: Trace) -> str:
    """The trace as text, one record a line, without fields that have their default."""
    lines = []
    for record in trace.records:
        fields = dataclasses.asdict(record)
        said = {
            name: value
            for name, value in fields.items()
            if name not in DEFAULTS or value != DEFAULTS[name]
        }
        lines.append(json.dumps(said))
    return '{"records": [\n' + ",\n".join(lines) + "\n]}\n"


def from_json(text: str, source: str = "trace") -> Trace:
    """The trace in a text.

    Raises:
        ValueError: the text is not such JSON, or a record is broken.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(data, dict) or not isinstance(data.get("records"), list):
        raise ValueError(f'{source}: no list "records"')
    items = enumerate(data["records"], 1)
    return Trace(tuple(_record(item, f"{source}: record {at}") for at, item in items), source)


def write_json(trace: Trace, path: str | Path) -> None:
    """Writes a trace."""
    atomic_write(path, to_json(trace))


def read_json(path: str | Path) -> Trace:
    """The trace in a file.

    Raises:
        ValueError: the file cannot be read, or as `from_json`.
    """
    return from_json(read_text(path), str(path))


def _record(item: Any, where: str) -> Lifetime:
    if not isinstance(item, dict):
        raise ValueError(f"{where}: {item!r} is not an object")
    for name, value in item.items():
        if name not in FIELDS:
            raise ValueError(f"{where}: {unknown('field', name, FIELDS)}")
        if name == "gaps":
            _check_gaps(value, where)
            continue
        kind = int if name in NUMBERS else str
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{where}: {name} is {value!r}: it must be of type {kind.__name__}")
    missing = [name for name in FIELDS if name not in item and name not in DEFAULTS]
    if missing:
        raise ValueError(f"{where}: no {missing[0]!r}")
    gaps = tuple(map(tuple, item.get("gaps", ())))
    return Lifetime(**{**item, "gaps": gaps})


def _check_gaps(value: Any, where: str) -> None:
    pairs = value if isinstance(value, list) else [None]
    for pair in pairs:
        numbers = pair if isinstance(pair, list) and len(pair) == 2 else [None]
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in numbers):
            raise ValueError(f"{where}: gaps are {str(value)[:60]}: give a list of [from, to]")
