"""A folder with all that is to be known about a program's memory. Imports no JAX."""

from collections.abc import Sequence
from pathlib import Path

from loomax.memory.lifetimes.xla_program import XlaProgram
from loomax.memory.report.contents import contents, to_json
from loomax.memory.report.levers import Lever
from loomax.memory.report.page import write_html
from loomax.memory.report.picture import draw
from loomax.runtime.files import atomic_write


def report(
    program: XlaProgram, folder: str | Path, title: str = "", levers: Sequence[Lever] = ()
) -> list[Path]:
    """Writes `memory.png`, `memory.html` and `memory.json`; each is whole or absent.

    Args:
        program: from `compile_traced` or `read_dump`.
        folder: made if it is not there.
        title: of the picture and the page; default: the name of the program.
        levers: other forms of it; the first is the form in use.

    Returns:
        The three paths.

    Raises:
        ValueError: there is a file of the folder's name.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the report")
    numbers = folder / "memory.json"
    paths = [
        draw(program, folder / "memory.png", title),
        write_html(program, folder / "memory.html", title, levers),
    ]
    atomic_write(numbers, to_json(contents(program, title, levers)))
    return [*paths, numbers]
