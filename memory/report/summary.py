"""A program's memory in a page of text. Imports no JAX."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.lifetimes.xla_proto import Origin
from loomax.memory.report.groups import NO_LINE, Group, group_by_line
from loomax.memory.report.levers import Lever, lever_lines
from loomax.memory.report.peak import Peak, peak_of
from loomax.memory.report.residents import LABELS, by_kind
from loomax.memory.report.sources import origins_of
from loomax.memory.report.text import bytes_text, count_text, operation_text, table

WIDTH = 60
UNLISTED = 0.01  # share of the heap that is worth a line


def summary(program: XlaProgram, levers: Sequence[Lever] = (), most: int = 10) -> list[str]:
    """Lines that say what fills a program's memory, and which code made that.

    Args:
        program: from `compile_traced` or `read_dump`.
        levers: other forms of it; the first is the form in use.
        most: rows of each table at most.

    Raises:
        ValueError: `most` is below 1.
    """
    if most < 1:
        raise ValueError(f"most is {most}: give at least 1 row")
    origins, peak = origins_of(program), peak_of(program.heap)
    groups = group_by_line(program.heap.records, origins, peak)
    lines = head(program, peak)
    if peak.live:
        lines += ["", "held at that time, by source line", *_by_line(groups, peak.live, most)]
        lines += ["", "largest buffers held at that time", *_largest(peak, origins, most)]
    if program.residents.records:
        lines += ["", "held for the whole call", *_whole_call(program, origins)]
    if levers:
        lines += ["", "what each form gives", *lever_lines(levers)]
    return lines


def head(program: XlaProgram, peak: Peak) -> list[str]:
    """The peak and its parts, how well the temporaries are packed, and when they are fullest."""
    parts = [f"temporaries {bytes_text(program.heap_bytes)}"]
    for kind, found in by_kind(program).items():
        parts.append(f"{LABELS[kind]} {bytes_text(sum(record.size for record in found))}")
    lines = [f"{program.module}: peak {bytes_text(program.peak)} = {' + '.join(parts)}"]
    if peak.live:
        count = len(program.heap.records)
        end = max(record.death for record in program.heap.records)
        lines += [
            f"temporaries: {count:,} buffers in {program.ratio:.4f} of the lower bound "
            f"({bytes_text(program.heap.lower_bound)})",
            f"fullest at steps {peak.time:,} to {peak.until:,} of {end:,}: {bytes_text(peak.live)} "
            f"in {len(peak.held):,} buffers",
        ]
    unlisted = unlisted_bytes(program)
    if unlisted > UNLISTED * program.heap_bytes:
        lines.append(f"{bytes_text(unlisted)} of the temporaries' heap hold no listed buffer")
    if program.left_out:
        lines.append(f"left out, since XLA gives no lifetime: {len(program.left_out):,} buffers")
    return lines


def unlisted_bytes(program: XlaProgram) -> int:
    """Bytes of the heap in which no buffer of the trace ever lies, such as what XLA reserves."""
    end = used = 0
    offsets = program.offsets
    for record in sorted(program.heap.records, key=lambda record: offsets[record.id]):
        low, high = offsets[record.id], offsets[record.id] + record.padded
        used += max(high - max(low, end), 0)
        end = max(end, high)
    return max(program.heap_bytes - used, 0)


def _by_line(groups: Sequence[Group], live: int, most: int) -> list[str]:
    held = [group for group in groups if group.held]
    rows = [
        (
            bytes_text(group.held_bytes),
            f"{group.held_bytes / live:.1%}",
            count_text([record.size for record in group.held]),
            group.line,
            operation_text(group.operation, WIDTH),
        )
        for group in held[:most]
    ]
    if len(held) > most:
        rest = sum(group.held_bytes for group in held[most:])
        lines = f"{len(held) - most:,} other lines"
        rows.append((bytes_text(rest), f"{rest / live:.1%}", "", lines, ""))
    return table(rows, left=(2, 3, 4))


def _largest(peak: Peak, origins: Mapping[str, Origin], most: int) -> list[str]:
    """Buffers of one operation and size are one row: layers that are not in a loop."""
    alike: dict[tuple[str, str, int], list[Lifetime]] = defaultdict(list)
    for record in peak.held:
        origin = origins[record.id]
        alike[origin.line, origin.op_name or origin.opcode, record.padded].append(record)
    order = sorted(alike.items(), key=lambda item: -len(item[1]) * item[0][2])
    rows = []
    for (line, operation, size), found in order[:most]:
        first, total = found[0], len(found) * size
        name = first.id if len(found) == 1 else f"{first.id}, ..."
        birth = min(record.birth for record in found)
        life = f"steps {birth:,} to {max(record.death for record in found):,}"
        count, share = f"{len(found)} x {bytes_text(size)}", f"{total / peak.live:.1%}"
        shown = operation_text(operation, WIDTH)
        rows.append((bytes_text(total), share, count, name, life, line or NO_LINE, shown))
    return table(rows, left=(2, 3, 4, 5, 6))


def _whole_call(program: XlaProgram, origins: Mapping[str, Origin]) -> list[str]:
    rows = []
    for kind, found in by_kind(program).items():
        names = [
            f"{operation_text(origins[record.id].op_name) or record.id} {bytes_text(record.size)}"
            for record in found[:3]
        ]
        names += ["..."] if len(found) > 3 else []
        total = bytes_text(sum(record.size for record in found))
        rows.append((total, f"{len(found):,}", LABELS[kind], ", ".join(names)))
    return table(rows, left=(2, 3))
