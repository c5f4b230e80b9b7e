"""Places that files are written to or read from: whether they can be, asked before any work."""

import os
import stat
import tempfile
from pathlib import Path


def check_file(path: str | Path, name: str) -> None:
    """Refuses a path that no file can be written to, or replaced at. Creates nothing.

    Args:
        name: of what is given, for messages: "--json".

    Raises:
        ValueError: it is empty, a folder, a device, under a file, too long, or not writable.
    """
    path = _given(path, name)
    mode = _mode(path, name)
    if mode is not None and stat.S_ISDIR(mode):
        raise ValueError(f"{name} is {path}, a folder: give the path of a file")
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError(f"{name} is {path}, which is no regular file: give the path of one")
    _check_parent(path.parent, path, name)


def check_folder(path: str | Path, name: str) -> None:
    """Refuses a path that no folder can be made at, or that nothing can be written into.

    Raises:
        ValueError: it is empty, a file, under a file, too long, or not writable.
    """
    path = _given(path, name)
    mode = _mode(path, name)
    if mode is not None and not stat.S_ISDIR(mode):
        raise ValueError(f"{name} is {path}, which is a file: give a folder")
    _check_parent(path, path, name)


def check_source(path: str | Path, name: str) -> None:
    """Refuses a path with neither a folder nor a file that can be read.

    Raises:
        ValueError: it is empty, missing, a device, or not readable.
    """
    path = _given(path, name)
    mode = _mode(path, name)
    if mode is None:
        raise ValueError(f"{name} is {path}: there is no such file or folder")
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise ValueError(f"{name} is {path}: give a file or a folder")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{name} is {path}: permission denied")


def _given(path: str | Path, name: str) -> Path:
    if not str(path):
        raise ValueError(f"{name} is empty: give a path")
    return Path(path).expanduser()


def _mode(path: Path, name: str) -> int | None:
    """None where there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is {path}: {_reason(error)}: give another path") from None


def _check_parent(folder: Path, path: Path, name: str) -> None:
    """Writes a file without a name into the nearest folder that there is."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise ValueError(
            f"{name} is {path}: cannot write into {folder}: {_reason(error)}: give another path"
        ) from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return os.fspath(reason)[:1].lower() + reason[1:]
