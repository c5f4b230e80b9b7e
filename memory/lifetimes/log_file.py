"""Logs of allocations as JSON lines, as the arena writes them: a line for each event, in order.

{"loomax_arena_log": 1, "threshold": 65536}
{"op": "alloc", "id": 0, "size": 262144, "alignment": 64, "thread": 7}
{"op": "free", "id": 0, "thread": 7}
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.text_file import read_text
from loomax.memory.lifetimes.trace import Trace
from loomax.runtime.config import unknown

HEAD = "loomax_arena_log"
FIELDS = {"alloc": ("op", "id", "size", "alignment", "thread"), "free": ("op", "id", "thread")}
# The kind of a buffer that was never freed: its death is not known.
OPEN = "open"


def read_log(path: str | Path) -> Trace:
    """The trace in a log file.

    Raises:
        ValueError: the file cannot be read, or as `parse_log`.
    """
    return parse_log(read_text(path), str(path))


def parse_log(text: str, source: str) -> Trace:
    """The trace in the text of a log.

    Times count events. A buffer that is not freed has the kind `OPEN`, and dies after all others.

    Raises:
        ValueError: a line is not such JSON, a buffer is freed before it is allocated, freed twice
            or allocated twice, or a size is negative; the message names it and its line.
    """
    numbered = [(at, line) for at, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not numbered or HEAD not in _object(numbered[0][1], f"{source}:{numbered[0][0]}"):
        raise ValueError(f"{source}: not a log of the arena: its first line has {HEAD!r}")
    made: dict[Any, _Buffer] = {}
    for time, (line, written) in enumerate(numbered[1:]):
        where = f"{source}:{line}"
        event = _event(_object(written, where), where)
        if event["op"] == "alloc":
            _allocate(made, event, time, line, where)
        else:
            _free(made, event, time, line, where)
    end = len(numbered)
    records = tuple(buffer.lifetime(end) for buffer in made.values())
    return Trace(records, source, tuple(buffer.line for buffer in made.values()))


@dataclass
class _Buffer:
    id: int
    size: int
    alignment: int
    birth: int
    line: int
    death: int | None = None
    freed_on: int = 0

    def lifetime(self, end: int) -> Lifetime:
        kind = OPEN if self.death is None else ""
        death = end if self.death is None else self.death
        return Lifetime(str(self.id), self.size, self.birth, death, self.alignment, kind)


def _allocate(made: dict, event: dict, time: int, line: int, where: str) -> None:
    id, size = event["id"], event["size"]
    if id in made:
        raise ValueError(f"{where}: buffer {id} is allocated twice: first on line {made[id].line}")
    if size < 0:
        raise ValueError(f"{where}: buffer {id}: size is {size}: it must be 0 or more")
    made[id] = _Buffer(id, size, event.get("alignment", 1), time, line)


def _free(made: dict, event: dict, time: int, line: int, where: str) -> None:
    buffer = made.get(event["id"])
    if buffer is None:
        raise ValueError(f"{where}: buffer {event['id']} is freed before it is allocated")
    if buffer.death is not None:
        raise ValueError(
            f"{where}: buffer {buffer.id} is freed twice: first on line {buffer.freed_on}"
        )
    buffer.death, buffer.freed_on = time, line


def _object(line: str, where: str) -> dict:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error.msg}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where}: {line.strip()!r} is not an object")
    return found


def _event(event: dict, where: str) -> dict:
    op = event.get("op")
    if op not in FIELDS:
        raise ValueError(f"{where}: {unknown('op', str(op), FIELDS)}")
    for name, value in event.items():
        if name not in FIELDS[op]:
            raise ValueError(f"{where}: {unknown('field', name, FIELDS[op])}")
        if name != "op" and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{where}: {name} is {value!r}: it must be a whole number")
    for name in ("id", "size") if op == "alloc" else ("id",):
        if name not in event:
            raise ValueError(f"{where}: no {name!r}")
    return event
