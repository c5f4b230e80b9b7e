"""All that a report knows, as JSON. Imports no JAX."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loomax.memory.lifetimes.trace import blocks, live_bytes
from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.lifetimes.xla_proto import Origin
from loomax.memory.report.groups import Group, group_by_line
from loomax.memory.report.levers import Lever
from loomax.memory.report.peak import Peak, peak_of
from loomax.memory.report.sources import origins_of
from loomax.memory.report.text import operation_text

FORMAT = "loomax-memory-report-1"


def contents(program: XlaProgram, title: str = "", levers: Sequence[Lever] = ()) -> dict[str, Any]:
    """Numbers and names of a program's memory.

    Buffers are columns, since there may be tens of thousands of them; `operation` and `line` count
    from 0 in `operations` and `lines`.

    Args:
        title: of the report; default: the name of the program.
        levers: other forms of it; the first is the form in use.
    """
    origins, peak = origins_of(program), peak_of(program.heap)
    groups = group_by_line(program.heap.records, origins, peak)
    return {
        "format": FORMAT,
        "title": title or program.module,
        "module": program.module,
        "peak_bytes": program.peak,
        "heap_bytes": program.heap_bytes,
        "lower_bound": program.heap.lower_bound,
        "ratio": program.ratio,
        "fullest": {"from_step": peak.time, "to_step": peak.until, "live_bytes": peak.live},
        "lines": [_group(group) for group in groups],
        **_buffers(program, origins, groups, peak),
        "live": [list(point) for point in live_bytes(blocks(program.heap.records))],
        "residents": [
            {
                "name": record.id,
                "kind": record.kind,
                "bytes": record.size,
                "operation": operation_text(origins[record.id].op_name),
                "line": origins[record.id].line,
            }
            for record in program.residents.records
        ],
        "levers": [asdict(lever) for lever in levers],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "line": group.line,
        "operation": operation_text(group.operation),
        "buffers": len(group.buffers),
        "held_buffers": len(group.held),
        "held_bytes": group.held_bytes,
        "color": group.color,
    }


def _buffers(
    program: XlaProgram, origins: Mapping[str, Origin], groups: Sequence[Group], peak: Peak
) -> dict[str, Any]:
    records = program.heap.records
    line = {record.id: at for at, group in enumerate(groups) for record in group.buffers}
    said = [origins[record.id].op_name or origins[record.id].opcode for record in records]
    operations = {name: at for at, name in enumerate(dict.fromkeys(said))}
    held = {record.id for record in peak.held}
    return {
        "operations": [operation_text(name) for name in operations],
        "buffers": {
            "name": [record.id for record in records],
            "bytes": [record.size for record in records],
            "offset": [program.offsets[record.id] for record in records],
            "birth": [record.birth for record in records],
            "death": [record.death for record in records],
            "operation": [operations[name] for name in said],
            "line": [line[record.id] for record in records],
            "held": [int(record.id in held) for record in records],
        },
    }


def to_json(data: Mapping[str, Any]) -> str:
    """The contents as text, one field a line."""
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in data.items()]
    return "{\n" + ",\n".join(fields) + "\n}\n"
