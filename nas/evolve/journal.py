"""What a search found out, one line each, so that it can be replayed. Imports no JAX.

A search is a pure function of its settings and of the scores that it is told. Run again on
its own journal it is told the recorded ones, and goes on where they end.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from loomax.nas.space.arch import Arch, from_json, to_json
from loomax.runtime.files import sync_directory


@dataclass(frozen=True)
class Entry:
    """One evaluation.

    Args:
        split: "search", "validation" or "test".
    """

    split: str
    arch: Arch
    score: float


class Journal:
    """A file of JSON lines: the settings, then every evaluation in order.

    Args:
        path: a journal that is there is read; a last line that was cut short is dropped.
        settings: of the search, for JSON.

    Raises:
        ValueError: the journal is of other settings, or damaged before its end.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, object]):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole, head = _whole_lines(self.path), json.dumps(settings)
        if whole:
            _check_settings(self.path, whole[0], head)
        self._recorded = [_entry(self.path, i + 2, line) for i, line in enumerate(whole[1:])]
        self._next = 0
        self._file = open(self.path, "ab")
        self._file.truncate(sum(len(line) for line in whole))
        if not whole:
            self._write([head])
            sync_directory(self.path.parent)

    @property
    def replaying(self) -> bool:
        """Whether there are recorded evaluations that were not asked for yet."""
        return self._next < len(self._recorded)

    def recall(self, split: str, arch: Arch) -> float:
        """The score that comes next in the record.

        Raises:
            ValueError: the record has another network there.
        """
        entry = self._recorded[self._next]
        if (entry.split, entry.arch) != (split, arch):
            raise ValueError(
                f"{self.path}: line {self._next + 2} is not what this search asks for: it was"
                " written by another version; give another --out"
            )
        self._next += 1
        return entry.score

    def record(self, entries: list[Entry]) -> None:
        """Adds evaluations; they are on disk when this returns."""
        self._write(
            [
                json.dumps(
                    {
                        "split": entry.split,
                        "score": entry.score,
                        "arch": json.loads(to_json(entry.arch)),
                    }
                )
                for entry in entries
            ]
        )

    def _write(self, lines: list[str]) -> None:
        self._file.write("".join(line + "\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self.close()


def _whole_lines(path: Path) -> list[bytes]:
    """The lines that end, with their ends."""
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _check_settings(path: Path, found: bytes, wanted: str) -> None:
    try:
        before, now = json.loads(found), json.loads(wanted)
        changed = [name for name in now.keys() | before.keys() if before.get(name) != now.get(name)]
    except (ValueError, AttributeError):
        raise ValueError(f"{path} is not the journal of a search: give another --out") from None
    if changed:
        name = min(changed)
        raise ValueError(
            f"{path} is of a search with {name} {before.get(name)!r}, not {now.get(name)!r}: give"
            " the same, or another --out"
        )


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        read = json.loads(line)
        return Entry(read["split"], from_json(json.dumps(read["arch"])), float(read["score"]))
    except (KeyError, TypeError, ValueError) as error:
        # Without this line alone the next one would not be what the search asks for.
        raise ValueError(
            f"{path}: line {number} is damaged ({error}): keep the {number - 1} lines before it"
            f" (head -n {number - 1}), or give another --out"
        ) from error
