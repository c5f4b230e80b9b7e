"""A folder of index versions, one of which is current.

    ROOT/current          the name of the current version
    ROOT/<version>/       a whole index
    ROOT/.building.*/     what a build has not finished; a killed one leaves it behind

A version is built aside, made durable, renamed into place and only then named in `current`, so a
reader finds the old index or the new one. The version before the current one is kept for readers
that are about to open it.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from loomax.runtime.files import atomic_write, sync_directory

CURRENT = "current"
BUILDING = ".building."
# Other folders are not ours to remove.
VERSION = re.compile(r"[0-9a-f]{16}")


def current(root: Path) -> Path:
    """The folder of the current version.

    Raises:
        ValueError: `root` holds no index.
    """
    pointer = root / CURRENT
    if not pointer.is_file():
        raise ValueError(f"{root} holds no index: build one with `loomax search index`")
    return root / pointer.read_text(encoding="utf-8")


def publish(root: Path, version: str, build: Callable[[Path], None]) -> Path:
    """Builds a version unless it is there, makes it current, and removes what is outdated.

    Args:
        version: 16 hexadecimal digits.
        build: fills the empty folder that it is given.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = root / version
    if not final.is_dir():
        aside = root / f"{BUILDING}{os.getpid()}.{uuid.uuid4().hex}"
        aside.mkdir()
        try:
            build(aside)
            _sync(aside)
            _move(aside, final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    previous = current(root).name if (root / CURRENT).is_file() else version
    atomic_write(root / CURRENT, version)
    _prune(root, {version, previous})
    return final


def _move(aside: Path, final: Path) -> None:
    try:
        os.rename(aside, final)
    except OSError:
        # Another process has built the same version meanwhile.
        if not final.is_dir():
            raise
    sync_directory(final.parent)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_directory(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _prune(root: Path, kept: set[str]) -> None:
    for path in root.iterdir():
        outdated = VERSION.fullmatch(path.name) and path.name not in kept
        abandoned = path.name.startswith(BUILDING) and not _alive(path.name)
        if path.is_dir() and (outdated or abandoned):
            shutil.rmtree(path, ignore_errors=True)


def _alive(name: str) -> bool:
    """Whether the process that builds there still runs."""
    try:
        os.kill(int(name.removeprefix(BUILDING).split(".")[0]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
