"""A folder of index versions, one of which is current.

    ROOT/current          the name of the current version
    ROOT/<version>/       a whole index; of one that was damaged and built again, <version>-1
    ROOT/.building.*/     what a build has not finished
    ROOT/.removing.*/     what is no version any more
    ROOT/.owner           who builds, see `runtime.owner`

One process builds at a time. A version is built aside, made durable with the sizes and digests of
its files, renamed into place and only then named in `current`; it is renamed away before it is
deleted. So wherever a build dies, what has a version's name is whole and a reader finds the old
index or the new one. The version before the current one is kept for readers that are about to
open it.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loomax.agents.search.retrieval.sealed import seal, verify
from loomax.runtime.files import atomic_write, sync_directory
from loomax.runtime.owner import own

OpenedT = TypeVar("OpenedT")

CURRENT = "current"
BUILDING, REMOVING = ".building.", ".removing."
# Other folders are not ours to remove.
VERSION = re.compile(r"([0-9a-f]{16})(-[0-9]+)?")
# What `atomic_write` leaves of `current` when it is killed.
HALF_POINTER = re.compile(r"\.current\.[0-9]+\.tmp")
MOST_NAME = 64
ATTEMPTS = 8


def current(root: Path) -> Path:
    """The folder of the current version.

    Raises:
        ValueError: `root` holds no index, or `current` names none.
    """
    name = _named(root)
    if name is None:
        raise ValueError(f"{root} holds no index: build one with `loomax search index`")
    if not VERSION.fullmatch(name) or not (root / name).is_dir():
        raise ValueError(f"{root / CURRENT} names no index: build it again with `{again(root)}`")
    return root / name


def version_of(folder: Path) -> str:
    """The version that a folder holds."""
    found = VERSION.fullmatch(folder.name)
    return found[1] if found else folder.name


def again(root: Path) -> str:
    """The command that builds the index of a folder."""
    return f"loomax search index SOURCE --out {root}"


def is_index(folder: Path) -> bool:
    """Whether a folder looks like one of indexes."""
    name = _named(folder)
    return name is not None and VERSION.fullmatch(name) is not None


def read_current(root: Path, read: Callable[[Path], OpenedT]) -> OpenedT:
    """What `read` makes of the current version; that of the next one if it is replaced meanwhile.

    Raises:
        ValueError: see `current`; and from `read`.
    """
    for left in reversed(range(ATTEMPTS)):
        folder = current(root)
        try:
            return read(folder)
        except (ValueError, OSError):
            if not left or _named(root) == folder.name:
                raise
    raise AssertionError("unreachable")


def publish(root: Path, version: str, build: Callable[[Path], None], *, wait: bool = False) -> Path:
    """Builds a version unless it is there and whole, makes it current, removes what is outdated.

    Args:
        version: 16 hexadecimal digits.
        build: fills the empty folder that it is given.
        wait: for another process that builds here, instead of refusing.

    Raises:
        Busy: another process builds here.
        OSError: the folder cannot be written, or the disk is full. The old version stays.
    """
    with own(root, wait, "wait for it to end, add --wait, or take another --out"):
        _clear(root, (BUILDING, REMOVING))
        final = _whole(root, version)
        if final is None:
            final = _free(root, version)
            _build(root, final, build)
        previous = _named(root)
        if previous != final.name:
            atomic_write(root / CURRENT, final.name)
        _prune(root, {final.name, previous})
    return final


def _named(root: Path) -> str | None:
    """What `current` says; None if there is none. Anything may stand in it."""
    try:
        with open(root / CURRENT, "rb") as file:
            return file.read(MOST_NAME).decode("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _whole(root: Path, version: str) -> Path | None:
    """A folder that holds the version undamaged."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and VERSION.fullmatch(path.name) and version_of(path) == version:
            try:
                verify(path, digests=True)
            except (ValueError, OSError):
                continue
            return path
    return None


def _free(root: Path, version: str) -> Path:
    """A name for the version that no folder has: a damaged one may still be read."""
    number, path = 0, root / version
    while path.exists():
        number += 1
        path = root / f"{version}-{number}"
    return path


def _build(root: Path, final: Path, build: Callable[[Path], None]) -> None:
    aside = root / f"{BUILDING}{uuid.uuid4().hex}"
    aside.mkdir()
    try:
        build(aside)
        seal(aside)
        _sync(aside)
        os.rename(aside, final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_directory(root)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_directory(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _prune(root: Path, kept: set[str | None]) -> None:
    """Deletes other versions; what cannot be deleted stays for the next build."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and VERSION.fullmatch(path.name) and path.name not in kept:
            try:
                os.rename(path, root / f"{REMOVING}{uuid.uuid4().hex}")
            except OSError:
                continue
    _clear(root, (REMOVING,))


def _clear(root: Path, beginnings: tuple[str, ...]) -> None:
    """Deletes what has no version's name; nobody else builds."""
    for path in sorted(root.iterdir()):
        if path.name.startswith(beginnings) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif HALF_POINTER.fullmatch(path.name):
            path.unlink(missing_ok=True)
