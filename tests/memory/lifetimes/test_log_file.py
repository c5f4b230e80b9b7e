"""Logs of allocations: what is read, and what is refused by name and line."""

import json

import pytest

from loomax.memory.lifetimes.log_file import OPEN, parse_log, read_log
from loomax.memory.lifetimes.record import Lifetime

HEAD = '{"loomax_arena_log": 1, "threshold": 65536}'


def log(*events):
    lines = [HEAD]
    for op, id, *size in events:
        more = {"size": size[0], "alignment": 64} if size else {}
        lines.append(json.dumps({"op": op, "id": id, **more, "thread": 1}))
    return "\n".join(lines) + "\n"


def test_events_become_lifetimes():
    trace = parse_log(log(("alloc", 7, 10), ("alloc", 8, 20), ("free", 7), ("alloc", 9, 5)), "x")
    assert trace.records == (
        Lifetime("7", 10, 0, 2, 64),
        Lifetime("8", 20, 1, 5, 64, OPEN),
        Lifetime("9", 5, 3, 5, 64, OPEN),
    )
    assert trace.lines == (2, 3, 5)
    assert trace.lower_bound == 128


def test_a_file_is_read_and_a_cut_one_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(log(("alloc", 0, 10), ("free", 0)))
    assert len(read_log(path).records) == 1
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match=r"log.jsonl:3: not JSON"):
        read_log(path)
    with pytest.raises(ValueError, match="cannot read"):
        read_log(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x: not a log of the arena"),
        ('{"op": "free", "id": 0}\n', "x: not a log of the arena"),
        (log(("alloc", 0, 1), ("free", 1)), "x:3: buffer 1 is freed before it is allocated"),
        (
            log(("alloc", 0, 1), ("free", 0), ("free", 0)),
            "x:4: buffer 0 is freed twice: first on line 3",
        ),
        (log(("alloc", 3, -1)), "x:2: buffer 3: size is -1: it must be 0 or more"),
        (
            log(("alloc", 0, 1), ("alloc", 0, 1)),
            "x:3: buffer 0 is allocated twice: first on line 2",
        ),
        (HEAD + "\n[]\n", r"x:2: '\[\]' is not an object"),
        (HEAD + '\n{"op": "fre", "id": 0}\n', "x:2: unknown op 'fre': did you mean free"),
        (HEAD + '\n{"op": "alloc", "id": 0}\n', "x:2: no 'size'"),
        (HEAD + '\n{"op": "free", "id": 0, "sise": 1}\n', "x:2: unknown field 'sise'"),
        (HEAD + '\n{"op": "free", "id": true}\n', "x:2: id is True: it must be a whole number"),
        (
            HEAD + '\n{"op": "alloc", "id": 0, "size": 1, "alignment": 0}\n',
            "x:2: buffer '0': alignment is 0",
        ),
    ],
)
def test_broken_logs_are_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_log(text, "x")
