"""Tables of a report as HTML. Imports no JAX."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from loomax.memory.report.levers import HEADER, Lever, lever_rows
from loomax.memory.report.residents import LABELS
from loomax.memory.report.text import bytes_text

MOST = 40
LINES = ("", "at the peak", "share", "buffers", "source line", "operation")
RESIDENTS = ("kind", "bytes", "name", "operation", "source line")


def lines_table(data: Mapping[str, Any]) -> str:
    """Source lines, with their colours; each row says which line it is, for the script."""
    live = data["fullest"]["live_bytes"] or 1
    rows = []
    for at, group in enumerate(data["lines"][:MOST]):
        cells = (
            bytes_text(group["held_bytes"]),
            f"{group['held_bytes'] / live:.1%}",
            f"{group['held_buffers']:,} of {group['buffers']:,}",
            group["line"],
            group["operation"],
        )
        swatch = f'<td><i style="background:{escape(group["color"])}"></i></td>'
        rows.append(f'<tr data-line="{at}">{swatch}{_cells(cells, right=(0, 1, 2))}</tr>')
    return _table(_cells(LINES, right=(1, 2, 3), tag="th"), rows) + _rest(data["lines"], "lines")


def residents_table(residents: Sequence[Mapping[str, Any]]) -> str:
    """Blocks that are held for the whole call: a sum for each kind, and the largest."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for block in residents:
        kinds[block["kind"]].append(block["bytes"])
    sums = [
        f"{len(kinds[kind]):,} {label} ({bytes_text(sum(kinds[kind]))})"
        for kind, label in LABELS.items()
        if kind in kinds
    ]
    order = sorted(residents, key=lambda block: -block["bytes"])
    rows = []
    for block in order[:MOST]:
        text = (block["kind"], bytes_text(block["bytes"]), block["name"])
        cells = (*text, block["operation"], block["line"])
        rows.append(f"<tr>{_cells(cells, right=(1,))}</tr>")
    header = _cells(RESIDENTS, right=(1,), tag="th")
    return f"<p>{escape(', '.join(sums))}</p>{_table(header, rows)}{_rest(order, 'blocks')}"


def levers_table(levers: Sequence[Lever]) -> str:
    """What each form gives; nothing without any."""
    if not levers:
        return ""
    right = tuple(range(1, len(HEADER)))
    rows = [f"<tr>{_cells(row, right)}</tr>" for row in lever_rows(levers)]
    return f"<h2>What each form gives</h2>{_table(_cells(HEADER, right, tag='th'), rows)}"


def _cells(texts: Sequence[str], right: Sequence[int], tag: str = "td") -> str:
    return "".join(
        f"<{tag}{' class=number' if at in right else ''}>{escape(text)}</{tag}>"
        for at, text in enumerate(texts)
    )


def _table(header: str, rows: Sequence[str]) -> str:
    body = "\n".join(rows)
    return f"<table><thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _rest(items: Sequence[Any], name: str) -> str:
    more = len(items) - MOST
    return f"<p>{more:,} other {name} are not listed.</p>" if more > 0 else ""
