"""One writer for a folder: a lock that dies with its process. Imports no JAX.

The lock is `flock` on the file `.owner` in the folder, which says who holds it. The kernel takes
it back when the process ends, however that happens, so there is never a stale one to remove.
Readers need no lock: what an owner writes is whole or absent.
"""

import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

FILE = ".owner"
# How the refusal of a run ends.
BUSY = "wait for it to end (--wait), or give another --name"
# File systems that have no locks (some network ones) answer with one of these.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# What this thread of control owns, so that it may ask again.
_OWNED: ContextVar[frozenset[Path]] = ContextVar("owned", default=frozenset())
# Descriptors of locks; a child that was forked closes them, and so does not keep the lock alive.
_OPEN: set[int] = set()


class Busy(ValueError):
    """Another process owns the folder."""


@contextmanager
def own(
    folder: str | Path, wait: bool = False, advice: str = "wait for it to end, or take another"
) -> Iterator[Path]:
    """Keeps `folder` for this process alone for as long as the block runs; creates it if needed.

    Inside of the block the same thread may ask again, which does nothing. A folder that was
    created and is still empty when the block fails is removed.

    Args:
        wait: until it is free, instead of refusing.
        advice: what the refusal ends with.

    Raises:
        Busy: another process (or thread) owns it; its number and the folder are named.
        OSError: the folder cannot be written.
    """
    folder = Path(folder).resolve()
    if folder in _OWNED.get():
        yield folder
        return
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _take(folder, wait, advice)
    except OSError:
        if new:
            _remove_if_empty(folder)
        raise
    _OPEN.add(descriptor)
    token = _OWNED.set(_OWNED.get() | {folder})
    try:
        yield folder
    except BaseException:
        if new:
            _remove_if_empty(folder)
        raise
    finally:
        _OWNED.reset(token)
        _OPEN.discard(descriptor)
        # Not left to the close: a child may have been forked and not have closed its copy yet.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def owner(folder: str | Path) -> str | None:
    """Who owns the folder now, in words; None if nobody does."""
    try:
        descriptor = os.open(Path(folder) / FILE, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _lock(descriptor, wait=False) else _holder(descriptor)
    finally:
        os.close(descriptor)


def _take(folder: Path, wait: bool, advice: str) -> int:
    """A descriptor that holds the lock; closing it gives the lock back."""
    path = folder / FILE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(descriptor, wait=False):
                holder = _holder(descriptor)
                if not wait:
                    raise Busy(f"{folder} is in use by {holder}: {advice}")
                print(f"waiting for {holder}, which uses {folder}", file=sys.stderr, flush=True)
                _lock(descriptor, wait=True)
            # The one who held it may have removed the file, and a third may hold the new one.
            if _is_at(path, descriptor):
                said = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
                _say(path, descriptor, said)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _say(path: Path, descriptor: int, said: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, said.encode(), 0)
    except OSError as error:  # such as a full disk; by descriptor it does not say where
        raise OSError(error.errno, error.strerror, str(path)) from None


def _lock(descriptor: int, wait: bool) -> bool:
    """Whether the lock was got; where there are no locks, everyone gets it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _holder(descriptor: int) -> str:
    try:
        said = json.loads(os.pread(descriptor, 4096, 0))
        pid, host = int(said["pid"]), str(said["host"])
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"
    return f"process {pid}" + (f" on {host}" if host != socket.gethostname() else "")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        if os.listdir(folder) == [FILE]:
            (folder / FILE).unlink()
            folder.rmdir()


def _close_in_child() -> None:
    for descriptor in _OPEN:
        with suppress(OSError):
            os.close(descriptor)
    _OPEN.clear()


os.register_at_fork(after_in_child=_close_in_child)
