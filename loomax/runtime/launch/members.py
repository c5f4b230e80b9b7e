"""The processes of one training: on this machine, or one for each of several hosts by ssh."""

import os
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from loomax.runtime.launch.group import Member

PORT = 8476  # What JAX takes for its coordinator on TPU hosts, too.


def variables(coordinator: str, processes: int, process: int) -> dict[str, str]:
    """What `loomax.runtime.distributed` reads."""
    return {
        "LOOMAX_COORDINATOR": coordinator,
        "LOOMAX_PROCESSES": str(processes),
        "LOOMAX_PROCESS": str(process),
    }


def local_members(command: Sequence[str], processes: int) -> list[Member]:
    """`loomax COMMAND` in several processes of this machine, which find each other.

    Raises:
        ValueError: no processes.
    """
    if processes < 1:
        raise ValueError(f"--processes is {processes}: give at least 1")
    program = [sys.executable, "-m", "loomax", *command]
    if processes == 1:
        return [Member("", program)]
    where = f"localhost:{free_port()}"
    return [
        Member(str(process), program, variables(where, processes, process))
        for process in range(processes)
    ]


def ssh_members(
    command: Sequence[str],
    hosts: Sequence[str],
    *,
    folder: str | None = None,
    program: str = ".venv/bin/loomax",
    ssh: str = "ssh -tt -o BatchMode=yes",
    port: int = PORT,
) -> list[Member]:
    """`loomax COMMAND` once on each host; the first one coordinates.

    The folder is the same on all hosts, and so are the runs in it (a shared file system). With a
    terminal (-tt) a remote process ends when its ssh does.

    Args:
        folder: where to run; default: this one.
        program: loomax there.

    Raises:
        ValueError: no hosts, one of them twice, or a word that is no host.
    """
    if not hosts or len(set(hosts)) != len(hosts):
        raise ValueError(f"--hosts is {' '.join(hosts)!r}: name each host once")
    for host in hosts:
        # ssh would take a word with a dash for an option.
        if not host or host.startswith("-") or len(host.split()) != 1:
            raise ValueError(f"--hosts has {host!r}: give names or addresses, or USER@HOST")
    where = f"{hosts[0].rpartition('@')[2]}:{port}"
    members = []
    for process, host in enumerate(hosts):
        settings = variables(where, len(hosts), process) if len(hosts) > 1 else {}
        words = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
        call = " ".join(["exec env", *words, program, *map(shlex.quote, command)])
        line = f"cd {shlex.quote(folder or os.fspath(Path.cwd()))} && {call}"
        members.append(Member(host, [*shlex.split(ssh), host, line]))
    return members


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
