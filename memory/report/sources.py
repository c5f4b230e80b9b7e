"""Which model code made each buffer. Imports no JAX."""

from collections import defaultdict
from dataclasses import replace

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.lifetimes.xla_proto import Origin
from loomax.memory.report.text import line_text


def origins_of(program: XlaProgram) -> dict[str, Origin]:
    """Origin of each buffer, with its source line as it is shown.

    A loop's own variables have no line: they get that of the buffer that held their memory before,
    or else after them.
    """
    shown = {line: line_text(line) for line in {each.line for each in program.origins.values()}}
    found = {id: replace(origin, line=shown[origin.line]) for id, origin in program.origins.items()}
    groups: dict[str, list[Lifetime]] = defaultdict(list)
    for record in program.heap.records:
        if record.alias:
            groups[record.alias].append(record)
    for group in groups.values():
        group.sort(key=lambda record: record.birth)
        _fill(group, found)
        _fill(group[::-1], found)
    return found


def _fill(group: list[Lifetime], found: dict[str, Origin]) -> None:
    """Gives lines, and names of operations where there are none, to those that follow."""
    last = Origin("")
    for record in group:
        origin = found[record.id]
        if origin.line:
            last = origin
        elif last.line:
            name = origin.op_name or last.op_name
            found[record.id] = replace(origin, line=last.line, op_name=name)
