"""Traces as CSV: the public packing format `id,lower,upper,size`, and our other columns.

The format is that of github.com/google/minimalloc; `upper` is exclusive. Its older names are read
too: `buffer` or `buffer_id` for `id`, `begin` or `start` for `lower`, and `end` for `upper`, which
is the last time that counts: ends of gaps are then, too. `gaps` holds times at which a buffer holds
nothing, `3-5 8-9`; where a gap names a part of the buffer that is held all the same (`3-5@0:64`),
all of it counts as held. A column `offset` (a solution) is skipped when read.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.text_file import read_text
from loomax.memory.lifetimes.trace import Trace
from loomax.runtime.config import unknown
from loomax.runtime.files import atomic_write

# Columns and the fields that they fill.
NUMBERS = {"lower": "birth", "upper": "death", "size": "size", "alignment": "alignment"}
TEXTS = {"id": "id", "kind": "kind", "phase": "phase", "alias": "alias"}
COLUMNS = {"id": "id", **NUMBERS, **TEXTS, "gaps": "gaps"}
OLDER = {"buffer": "id", "buffer_id": "id", "begin": "lower", "start": "lower", "end": "upper"}
REQUIRED = ("id", "lower", "upper", "size")
SKIPPED = ("offset",)
# Rows between two calls of `tell`.
TELL_EVERY = 100_000


def read_csv(path: str | Path, tell: Callable[[int], None] | None = None) -> Trace:
    """The trace in a CSV file.

    Args:
        tell: called with the number of rows now and then.

    Raises:
        ValueError: the file cannot be read, a column or a number is wrong, or a record is broken.
    """
    return parse_csv(read_text(path), str(path), tell)


def parse_csv(text: str, source: str, tell: Callable[[int], None] | None = None) -> Trace:
    """The trace in the text of a CSV file.

    Raises:
        ValueError: as `read_csv`.
    """
    rows = csv.reader(io.StringIO(text, newline=""))
    records: list[Lifetime] = []
    lines: list[int] = []
    table: _Table | None = None
    try:
        for row in rows:
            if not any(map(str.strip, row)):
                continue
            if table is None:
                table = _Table([cell.strip() for cell in row], source)
                continue
            records.append(table.record(row, rows.line_num))
            lines.append(rows.line_num)
            if tell is not None and len(lines) % TELL_EVERY == 0:
                tell(len(lines))
    except csv.Error as error:
        raise ValueError(f"{source}:{rows.line_num}: {error}") from error
    if table is None:
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
        if used[-1] == "gaps":
            row[-1] = " ".join(f"{start}-{end}" for start, end in record.gaps)
        writer.writerow(row + ([offsets[record.id]] if offsets is not None else []))
    atomic_write(path, text.getvalue())


class _Table:
    """The columns of a file, and its rows as records."""

    def __init__(self, header: Sequence[str], source: str):
        self.source, self.width = source, len(header)
        # The last time that counts, in files of the older format.
        self.last = int("end" in header)
        names = [OLDER.get(column, column) for column in header]
        self._check(header, names)
        self.place = {name: at for at, name in enumerate(names) if name not in SKIPPED}
        self.required = [self.place[name] for name in REQUIRED]
        self.plain = len(self.place) == len(REQUIRED)

    def record(self, row: list[str], line: int) -> Lifetime:
        if len(row) != self.width:
            raise ValueError(f"{self.source}:{line}: {len(row)} cells, and {self.width} columns")
        name, lower, upper, size = self.required
        if self.plain:
            try:
                return Lifetime(
                    row[name].strip(), int(row[size]), int(row[lower]), int(row[upper]) + self.last
                )
            except ValueError:
                pass
        fields = self._fields([cell.strip() for cell in row], f"{self.source}:{line}")
        return Lifetime(**fields)

    def _fields(self, cells: Sequence[str], where: str) -> dict:
        values = {column: cells[at] for column, at in self.place.items()}
        where = f"{where}: buffer {values['id']!r}"
        fields: dict = {
            field: values[column] for column, field in TEXTS.items() if column in values
        }
        for column, field in NUMBERS.items():
            if column in values:
                fields[field] = _whole(values[column], f"{where}: {column}")
        fields["death"] += self.last
        if "gaps" in values:
            gaps = [self._gap(text, where) for text in values["gaps"].split()]
            fields["gaps"] = tuple(sorted(gap for gap in gaps if gap is not None))
        return fields

    def _gap(self, text: str, where: str) -> tuple[int, int] | None:
        """A gap `from-to`; None where a part of the buffer is held all the same, `from-to@a:b`."""
        times, at, window = text.partition("@")
        start, minus, end = times.partition("-")
        numbers = [start, end, *(window.split(":") if at else ())]
        if not minus or len(numbers) != (4 if at else 2):
            raise ValueError(f"{where}: gap {text[:40]!r}: write from-to, or from-to@low:high")
        whole = [
            _whole(number, f"{where}: gap {text[:40]!r}: one of its numbers") for number in numbers
        ]
        return None if at else (whole[0], whole[1] + self.last)

    def _check(self, header: Sequence[str], names: Sequence[str]) -> None:
        where = f"{self.source}:1"
        for column in REQUIRED:
            if column not in names:
                raise ValueError(f"{where}: no column {column!r} in {','.join(header)[:200]!r}")
        for column, name in zip(header, names, strict=True):
            if name not in COLUMNS and name not in SKIPPED:
                raise ValueError(f"{where}: {unknown('column', column[:40], [*COLUMNS, *OLDER])}")
            if names.count(name) > 1:
                raise ValueError(f"{where}: column {name!r} stands there twice")


def _whole(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what} is {text[:40]!r}: give a whole number") from None
