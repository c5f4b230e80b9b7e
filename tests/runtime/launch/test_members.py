"""Processes and their variables, and an ssh that is a shell on this machine."""

import shlex
import sys

import pytest

from loomax.runtime.launch.group import run_group
from loomax.runtime.launch.members import local_members, ssh_members, variables


def test_one_process_needs_no_others():
    (member,) = local_members(["train", "--config", "debug"], 1)
    assert member.environment == {}
    assert list(member.argv) == [sys.executable, "-m", "loomax", "train", "--config", "debug"]


def test_processes_of_one_machine_share_a_port():
    members = local_members(["train"], 3)
    where = {member.environment["LOOMAX_COORDINATOR"] for member in members}
    assert len(where) == 1 and where.pop().startswith("localhost:")
    assert [member.environment["LOOMAX_PROCESS"] for member in members] == ["0", "1", "2"]
    assert {member.environment["LOOMAX_PROCESSES"] for member in members} == {"3"}


@pytest.mark.parametrize("count", [0, -1])
def test_no_processes_are_refused(count):
    with pytest.raises(ValueError, match=f"--processes is {count}: give at least 1"):
        local_members(["train"], count)


def test_the_first_host_coordinates():
    members = ssh_members(["train", "--name", "a b"], ["me@one", "two"], folder="/data/my run")
    for process, (member, host) in enumerate(zip(members, ["me@one", "two"], strict=True)):
        assert member.name == host and list(member.argv[-2:-1]) == [host]
        cd, call = member.argv[-1].split(" && ")
        assert shlex.split(cd) == ["cd", "/data/my run"]
        words = shlex.split(call)
        assert words[:2] == ["exec", "env"] and words[-3:] == ["train", "--name", "a b"]
        given = dict(word.split("=") for word in words[2:5])
        assert given == variables("one:8476", 2, process)


def test_hosts_are_named_once():
    with pytest.raises(ValueError, match="name each host once"):
        ssh_members(["train"], ["one", "one"])


def test_what_ssh_is_given_runs_in_a_shell(tmp_path, capfd):
    """`sh -c LINE` stands in for ssh, and a script for loomax there."""
    shell = tmp_path / "ssh"
    shell.write_text('#!/bin/sh\nexec sh -c "$2"\n')
    there = tmp_path / "loomax"
    there.write_text('#!/bin/sh\necho "$LOOMAX_PROCESS of $LOOMAX_PROCESSES: $2 in $(pwd)"\n')
    for path in (shell, there):
        path.chmod(0o755)
    members = ssh_members(
        ["train", "a 'b'"],
        ["one", "two"],
        folder=str(tmp_path),
        program=str(there),
        ssh=str(shell),
    )
    assert run_group(members) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == [
        f"[one] 0 of 2: a 'b' in {tmp_path}",
        f"[two] 1 of 2: a 'b' in {tmp_path}",
    ]
