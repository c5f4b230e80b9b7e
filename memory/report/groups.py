"""Buffers by the source line that made them. Imports no JAX."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loomax.memory.lifetimes.record import Lifetime
from loomax.memory.lifetimes.xla_proto import Origin
from loomax.memory.report.peak import Peak

# Tableau 10, with a violet for its grey, which is for all others.
PALETTE = (
    "#4e79a7",
    "#f28e2b",
    "#e15759",
    "#76b7b2",
    "#59a14f",
    "#edc948",
    "#b07aa1",
    "#ff9da7",
    "#9c755f",
    "#6a3d9a",
)
OTHER = "#bab0ac"
NO_LINE = "(no source line)"


@dataclass(frozen=True)
class Group:
    """Buffers of one source line.

    Args:
        line: "file:line".
        operation: name of the JAX operation that made most of its bytes.
        buffers: all of them.
        held: those that live at the peak.
        color: in pictures; small groups share one.
    """

    line: str
    operation: str
    buffers: tuple[Lifetime, ...]
    held: tuple[Lifetime, ...]
    color: str = OTHER

    @property
    def held_bytes(self) -> int:
        """Bytes at the peak, alignment included."""
        return sum(record.padded for record in self.held)

    @property
    def area(self) -> int:
        """Bytes times steps."""
        return sum(record.size * (record.death - record.birth) for record in self.buffers)


def group_by_line(
    records: Sequence[Lifetime], origins: Mapping[str, Origin], peak: Peak
) -> list[Group]:
    """Groups, those with the most bytes at the peak first, then those with the most over time."""
    held = {record.id for record in peak.held}
    members: dict[str, list[Lifetime]] = defaultdict(list)
    for record in records:
        members[origins[record.id].line or NO_LINE].append(record)
    groups = []
    for line, buffers in members.items():
        at_peak = tuple(record for record in buffers if record.id in held)
        operation = _operation(at_peak or buffers, origins)
        groups.append(Group(line, operation, tuple(buffers), at_peak))
    groups.sort(key=lambda group: (-group.held_bytes, -group.area, group.line))
    return _colored(groups)


def _operation(records: Sequence[Lifetime], origins: Mapping[str, Origin]) -> str:
    sizes = Counter[str]()
    for record in records:
        origin = origins[record.id]
        sizes[origin.op_name or origin.opcode] += record.size
    return max(sizes, key=lambda name: sizes[name])


def _colored(groups: Sequence[Group]) -> list[Group]:
    """Colours for those that fill most of the picture, or most of the peak."""
    area = sum(group.area for group in groups) or 1
    held = sum(group.held_bytes for group in groups) or 1
    order = sorted(groups, key=lambda group: -(group.area / area + group.held_bytes / held))
    colors = {group.line: color for group, color in zip(order, PALETTE, strict=False)}
    return [
        Group(group.line, group.operation, group.buffers, group.held, colors.get(group.line, OTHER))
        for group in groups
    ]
