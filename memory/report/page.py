"""A program's memory as one HTML file that needs nothing else. Imports no JAX."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.report.contents import contents, to_json
from loomax.memory.report.levers import Lever
from loomax.memory.report.peak import peak_of
from loomax.memory.report.summary import head
from loomax.memory.report.tables import levers_table, lines_table, residents_table
from loomax.runtime.files import atomic_write

HERE = Path(__file__).parent


def write_html(
    program: XlaProgram, path: str | Path, title: str = "", levers: Sequence[Lever] = ()
) -> Path:
    """Writes a page with a picture to zoom into, search and hover over, and all tables.

    Args:
        path: of the file.
        title: of the page; default: the name of the program.
        levers: other forms of the program; the first is the form in use.
    """
    data = contents(program, title, levers)
    atomic_write(path, render(data, head(program, peak_of(program.heap)), levers))
    return Path(path)


def render(data: Mapping[str, Any], lines: Sequence[str], levers: Sequence[Lever]) -> str:
    """The page as text.

    Args:
        data: from `contents`.
        lines: what stands under the title.
        levers: as in `data`.
    """
    fields = {
        "title": escape(data["title"]),
        "head": escape("\n".join(lines)),
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
        "lines": lines_table(data),
        "residents": residents_table(data["residents"]),
        "levers": levers_table(levers),
        "data": _within_script(to_json(data)),
    }
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(fields)


def _within_script(text: str) -> str:
    """JSON that no tag can end: these characters stand in its strings only."""
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
