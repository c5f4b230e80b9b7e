"""Files that are either whole or absent, and the folder of a run."""

import os
import re
from pathlib import Path


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Writes `content` (text as UTF-8) so that a reader, or a crash, never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes a rename inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def run_directory(root: str | Path, name: str) -> Path:
    """Creates and returns `root/name`, the folder of one run.

    Raises:
        ValueError: `name` is not one plain folder name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"run name {name!r} cannot be a folder: use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    path = Path(root) / name
    path.mkdir(parents=True, exist_ok=True)
    return path
