"""What the colours of a picture stand for. Imports no JAX."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from loomax.memory.report.groups import OTHER, Group
from loomax.memory.report.peak import Peak
from loomax.memory.report.text import bytes_text, count_text, operation_text, shortened

INK = "#222222"
WIDTH = 42


def draw_legend(axis: Axes, groups: Sequence[Group], peak: Peak) -> None:
    """Source lines, those with the most bytes at the peak first.

    Args:
        axis: an empty one beside the picture.
        groups: of all buffers.
    """
    own = [group for group in groups if group.color != OTHER]
    others = [group for group in groups if group.color == OTHER]
    entries = [(Patch(facecolor=group.color), _label(group, peak)) for group in own]
    if others:
        held = bytes_text(sum(group.held_bytes for group in others))
        entries.append((Patch(facecolor=OTHER), f"{len(others):,} other lines\n{held} at the peak"))
    entries.append((Patch(facecolor="none", edgecolor=INK, lw=1.2), "live at the peak"))
    legend = axis.legend(
        handles=[patch for patch, _ in entries],
        labels=["label"] * len(entries),
        loc="upper left",
        bbox_to_anchor=(-0.1, 1.02),
        borderaxespad=0,
        fontsize=8,
        frameon=False,
        title="source line, bytes at the peak",
        alignment="left",
    )
    # Set afterwards, as Matplotlib leaves out labels that begin with "_" and typesets "$".
    for place, (_, text) in zip(legend.get_texts(), entries, strict=True):
        place.set_parse_math(False)
        place.set_text(text)


def _label(group: Group, peak: Peak) -> str:
    held = "not at the peak"
    if group.held:
        counts = count_text([record.size for record in group.held])
        held = f"{bytes_text(group.held_bytes)}, {group.held_bytes / peak.live:.1%}: {counts}"
    operation = shortened(operation_text(group.operation, WIDTH), WIDTH)
    return "\n".join(text for text in (shortened(group.line, WIDTH), held, operation) if text)
