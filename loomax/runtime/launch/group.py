"""Processes that belong together: one fails, all stop; one is told to stop, all are."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

POLL_S = 0.1
# Runs argv[2:] as this process, which gets SIGTERM (15) when the launcher, process argv[1], ends:
# PR_SET_PDEATHSIG, number 1 of Linux's prctl. A program of its own, since only a program can ask
# for itself, and what would run between fork and exec here is not safe beside threads.
FOLLOW = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(143)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Member:
    """One process.

    Args:
        name: in front of the lines that it writes.
        argv: the program and its arguments.
        environment: variables on top of this process's own.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def run_group(members: Sequence[Member], grace_s: float = 30.0) -> int:
    """Runs all members and waits for them.

    SIGTERM and SIGINT of this process go to all of them. When one fails, the others get SIGTERM,
    and SIGKILL after `grace_s`: a collective operation would wait for the dead one for ever. When
    this process is killed, the kernel gives them SIGTERM, so that they save and stop.

    Returns:
        0, or the exit code of the member that failed first (128 + N for signal N).

    Raises:
        ValueError: a member's program cannot be started.
    """
    running: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    with forwarded(running):
        try:
            for member in members:
                running.append(_start(member))
                readers.append(_copy(member.name, running[-1].stdout))
            code = _wait(running, grace_s)
        finally:
            for process in running:
                process.kill()
                process.wait()
            for process, reader in zip(running, readers, strict=True):
                # A grandchild may hold the other end.
                reader.join(timeout=5)
                if process.stdout is not None and not reader.is_alive():
                    process.stdout.close()
    return code


def _start(member: Member) -> subprocess.Popen[str]:
    program = shutil.which(member.argv[0])
    if program is None:
        raise ValueError(f"cannot start {member.argv[0]!r}: no such program")
    follow = [sys.executable, "-S", "-E", "-c", FOLLOW, str(os.getpid())]
    return subprocess.Popen(
        [*follow, program, *member.argv[1:]],
        # So that a member outlives this end of its pipe for as long as it takes to save.
        env=os.environ | {"LOOMAX_LAUNCHED": "1"} | dict(member.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C comes once, from here, not from the terminal too.
        start_new_session=True,
    )


def _copy(name: str, lines: Iterable[str] | None) -> threading.Thread:
    """Copies a member's lines to the standard output, with its name in front."""

    def copy() -> None:
        for line in lines or ():
            sys.stdout.write(f"[{name}] {line}" if name else line)
            sys.stdout.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _wait(running: Sequence[subprocess.Popen[Any]], grace_s: float) -> int:
    """The first failure's exit code once all have ended."""
    failed, deadline = 0, float("inf")
    while any(process.poll() is None for process in running):
        codes = [process.poll() for process in running]
        bad = [code for code in codes if code]
        if bad and not failed:
            failed, deadline = bad[0], time.monotonic() + grace_s
            _signal(running, signal.SIGTERM)
        if time.monotonic() > deadline:
            _signal(running, signal.SIGKILL)
        time.sleep(POLL_S)
    failed = failed or next((process.returncode for process in running if process.returncode), 0)
    return failed if failed >= 0 else 128 - failed


def _signal(running: Sequence[subprocess.Popen[Any]], number: int) -> None:
    for process in running:
        if process.poll() is None:
            process.send_signal(number)


@contextmanager
def forwarded(running: Sequence[subprocess.Popen[Any]]) -> Iterator[None]:
    """Gives this process's SIGTERM and SIGINT to all that run; as SIGTERM, so that they save."""

    def give(number: int, frame: Any) -> None:
        _signal(running, signal.SIGTERM)

    before = {number: signal.signal(number, give) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
