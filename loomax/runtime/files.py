"""Files that are either whole or absent, and the folder of a run."""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loomax.runtime.bounds import shorten

# Of what a program writes and reads again; tables of latencies and plans are the longest.
MOST_JSON = 2**28

# Full, over the quota, a file over its limit, broken, not writable.
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Writes `content` (text as UTF-8) so that a reader, or a crash, never sees half of it.

    Raises:
        ValueError: `path` has no name.
        OSError: it cannot be written.
    """
    path = Path(path)
    if not path.name:
        raise ValueError(f"{str(path)!r} is no path of a file: give one")
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


def read_json(path: str | Path, most: int = MOST_JSON) -> Any:
    """What a JSON file of UTF-8 holds.

    Raises:
        ValueError: there is no such file, it is longer than `most` bytes, or it is no JSON; the
            message names it.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > most:
        raise ValueError(f"{path} is longer than {most} bytes: it is no file of this program")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


@contextmanager
def faults_of_disk(path: Path) -> Iterator[None]:
    """Turns what libraries raise when a disk is full or broken into the OSError that it is.

    Raises:
        OSError: naming `path`.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        said = str(error)
        number = next((number for number in _OF_DISK if os.strerror(number) in said), None)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def sync_directory(path: Path) -> None:
    """Makes a rename inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_run_name(name: str) -> None:
    """Raises ValueError unless `name` is one plain folder name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ValueError(
            f"run name {shorten(name)} cannot be a folder: use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit, at most 200"
        )


def run_directory(root: str | Path, name: str) -> Path:
    """Creates and returns `root/name`, the folder of one run.

    Raises:
        ValueError: `name` is not one plain folder name.
    """
    check_run_name(name)
    path = Path(root) / name
    path.mkdir(parents=True, exist_ok=True)
    return path
