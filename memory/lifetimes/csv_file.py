"""Traces as CSV: the public packing format `id,lower,upper,size`, and our other columns.

The format is that of github.com/google/minimalloc; `upper` is exclusive. A column `offset` (a
solution) is skipped when read.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.text_file import read_text
from loomax.memory.lifetimes.trace import Trace
from loomax.runtime.config import unknown
from loomax.runtime.files import atomic_write

# Columns and the fields that they fill.
NUMBERS = {"lower": "birth", "upper": "death", "size": "size", "alignment": "alignment"}
TEXTS = {"id": "id", "kind": "kind", "phase": "phase", "alias": "alias"}
COLUMNS = {"id": "id", **NUMBERS, **TEXTS}
REQUIRED = ("id", "lower", "upper", "size")
SKIPPED = ("offset",)


def read_csv(path: str | Path) -> Trace:
    """The trace in a CSV file.

    Raises:
        ValueError: the file cannot be read, a column or a number is wrong, or a record is broken.
    """
    return parse_csv(read_text(path), str(path))


def parse_csv(text: str, source: str) -> Trace:
    """The trace in the text of a CSV file.

    Raises:
        ValueError: as `read_csv`.
    """
    rows = csv.reader(io.StringIO(text, newline=""))
    records, lines, header = [], [], None
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if header is None:
                header = cells
                _check_header(header, source)
                continue
            records.append(_record(header, cells, f"{source}:{rows.line_num}"))
            lines.append(rows.line_num)
    except csv.Error as error:
        raise ValueError(f"{source}:{rows.line_num}: {error}") from error
    if header is None:
        raise ValueError(f"{source}: empty: the first line is {','.join(REQUIRED)}")
    return Trace(tuple(records), source, tuple(lines))


def write_csv(trace: Trace, path: str | Path, offsets: Mapping[str, int] | None = None) -> None:
    """Writes a trace, with only those optional columns that say something, and a plan's offsets."""
    plain = Lifetime("", 0, 0, 1)
    used = [
        column
        for column, field in COLUMNS.items()
        if column in REQUIRED
        or any(getattr(record, field) != getattr(plain, field) for record in trace.records)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(used + ["offset"] * (offsets is not None))
    for record in trace.records:
        row = [getattr(record, COLUMNS[column]) for column in used]
        writer.writerow(row + ([offsets[record.id]] if offsets is not None else []))
    atomic_write(path, text.getvalue())


def _check_header(header: list[str], source: str) -> None:
    for column in REQUIRED:
        if column not in header:
            raise ValueError(f"{source}:1: no column {column!r} in {','.join(header)!r}")
    for column in header:
        if column not in COLUMNS and column not in SKIPPED:
            raise ValueError(f"{source}:1: {unknown('column', column, COLUMNS)}")
        if header.count(column) > 1:
            raise ValueError(f"{source}:1: column {column!r} stands there twice")


def _record(header: list[str], cells: list[str], where: str) -> Lifetime:
    if len(cells) != len(header):
        raise ValueError(f"{where}: {len(cells)} cells, and {len(header)} columns")
    values = dict(zip(header, cells, strict=True))
    fields: dict = {field: values[column] for column, field in TEXTS.items() if column in values}
    for column, field in NUMBERS.items():
        if column in values:
            fields[field] = _whole(values[column], f"{where}: buffer {values['id']!r}: {column}")
    return Lifetime(**fields)


def _whole(text: str, what: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{what} is {text!r}: give a whole number") from None
    if abs(number) >= 2**62:
        raise ValueError(f"{what} is {number}: it must lie within 2**62 of 0")
    return number
