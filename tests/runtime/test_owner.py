"""The owner of a folder: one process, refused or waited for by others, gone with its death."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from loomax.runtime.owner import FILE, Busy, own, owner

HOLD = """
import sys
from loomax.runtime.owner import own
with own(sys.argv[1]):
    print("mine", flush=True)
    sys.stdin.read()
"""
WAIT = """
import sys
from loomax.runtime.owner import own
with own(sys.argv[1], wait=True):
    print("mine", flush=True)
"""


def start(code: str, folder: Path) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], text=True, **pipes)


@pytest.fixture
def holder(tmp_path):
    """A process that owns tmp_path / "run"."""
    process = start(HOLD, tmp_path / "run")
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_in_a_line_that_names_pid_and_folder(tmp_path, holder):
    run = tmp_path / "run"
    with (
        pytest.raises(Busy, match=f"{run} is in use by process {holder.pid}: give another"),
        own(run, advice="give another --name"),
    ):
        pass
    assert issubclass(Busy, ValueError)
    assert owner(run) == f"process {holder.pid}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_dies_with_its_process(tmp_path, holder, number):
    os.kill(holder.pid, number)
    holder.wait()
    assert owner(tmp_path / "run") is None
    with own(tmp_path / "run"):
        assert owner(tmp_path / "run") == f"process {os.getpid()}"


def test_a_second_process_waits_when_told_to(tmp_path, holder):
    waiter = start(WAIT, tmp_path / "run")
    assert f"waiting for process {holder.pid}" in waiter.stderr.readline()
    assert waiter.poll() is None
    holder.kill()
    said, _ = waiter.communicate(timeout=60)
    assert said == "mine\n" and waiter.returncode == 0


def test_the_owner_may_ask_again_but_another_thread_may_not(tmp_path):
    found = []

    def other():
        try:
            with own(tmp_path):
                found.append("got it")
        except Busy:
            found.append("refused")

    with own(tmp_path):
        with own(str(tmp_path) + "/."):
            pass
        # The inner block gave nothing back.
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found == ["refused"]
    other()
    assert found == ["refused", "got it"]


FORK = """
import os, signal, sys
from loomax.runtime.owner import own, owner
read, write = os.pipe()
with own(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # ends with the parent
        print(owner(sys.argv[1]))
        sys.stdout.flush()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    said, complaint = start(FORK, tmp_path).communicate(timeout=60)
    assert said == "None\n", complaint


def test_a_failed_block_leaves_no_empty_folder_and_keeps_what_was_there(tmp_path):
    with pytest.raises(KeyError), own(tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with pytest.raises(KeyError), own(tmp_path / "full"):
        (tmp_path / "full" / "x").touch()
        raise KeyError
    assert (tmp_path / "full" / "x").exists()


def _take_turns(folder, rounds, found):
    for _ in range(rounds):
        with own(folder, wait=True):
            path = folder / "count"
            path.write_text(str(int(path.read_text()) + 1))
    found.put(rounds)


@pytest.mark.multiprocess
def test_nobody_is_inside_with_another(tmp_path):
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    workers = [context.Process(target=_take_turns, args=(tmp_path, 50, found)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert (tmp_path / "count").read_text() == "150"
    assert owner(tmp_path) is None and (tmp_path / FILE).exists()


def test_a_full_disk_names_the_place_and_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"run/\.owner") as fault, own(tmp_path / "run"):
        pass
    assert fault.value.errno == errno.ENOSPC and not (tmp_path / "run").exists()
