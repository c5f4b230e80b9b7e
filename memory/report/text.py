"""Bytes, shares and places as short text. Imports no JAX."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

UNITS = ("KiB", "MiB", "GiB", "TiB")
INSTALLED = ("site-packages/", "dist-packages/")


def bytes_text(count: float) -> str:
    """Bytes in binary units: 15.0 GiB."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in UNITS:
        count /= 1024
        if abs(count) < 1024 or unit == UNITS[-1]:
            break
    return f"{count:.1f} {unit}"


def percent_text(change: float) -> str:
    """A relative change with its sign: 2.6 is "+260 %"."""
    number = f"{100 * change:+.0f}" if abs(change) >= 0.1 else f"{100 * change:+.2f}"
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} %"


def change_text(before: int, after: int) -> str:
    """Two sizes and their relative change: "15.0 GiB -> 54.0 GiB (+260 %)"."""
    old, new = bytes_text(before), bytes_text(after)
    if old == new and before != after:
        old, new = f"{before:,} B", f"{after:,} B"
    if before:
        return f"{old} -> {new} ({percent_text(after / before - 1)})"
    return f"{old} -> {new}"


def count_text(sizes: Sequence[int], most: int = 2) -> str:
    """How many buffers of which sizes: "26 x 40.0 MiB + 3 smaller".

    Args:
        sizes: of each buffer, bytes.
        most: sizes that are named; those with the most bytes together come first.
    """
    counts = Counter(bytes_text(size) for size in sorted(sizes, reverse=True))
    held = Counter[str]()
    for size in sizes:
        held[bytes_text(size)] += size
    named = sorted(counts, key=lambda text: -held[text])
    terms = [f"{counts[text]} x {text}" for text in named[:most]]
    others = sum(counts[text] for text in named[most:])
    return " + ".join([*terms, f"{others} others"] if others else terms)


def line_text(line: str, root: Path | None = None) -> str:
    """ "file:line" without what differs between machines.

    Args:
        line: of the source; empty if unknown.
        root: folder that files are told from; default: the current one.
    """
    for folder in INSTALLED:
        if folder in line:
            return line.rpartition(folder)[2]
    start = f"{root or Path.cwd()}/".replace("//", "/")
    return line.removeprefix(start)


def operation_text(op_name: str, width: int = 0) -> str:
    """Path of JAX functions without the outermost one, cut from the left.

    Args:
        op_name: such as "jit(step)/jvp(attention)/dot_general".
        width: characters at most, but the operation itself is kept; 0 has no limit.
    """
    outer, slash, inner = op_name.partition("/")
    text = inner if slash and outer.startswith(("jit(", "pjit(")) else op_name
    if not width or len(text) <= width:
        return text
    first, *others = text.split("/")
    while len(others) > 1 and len("/".join(others)) + 4 > width:
        first, *others = others
    return f".../{'/'.join(others)}" if others else first


def table(rows: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Lines with columns of equal width; those in `left` begin, the others end together."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))] if rows else []
    return [
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def shortened(text: str, width: int) -> str:
    """The end of a text that is longer than `width` characters."""
    return text if len(text) <= width else f"...{text[3 - width :]}"
