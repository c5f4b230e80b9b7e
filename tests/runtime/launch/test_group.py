"""Supervision of processes that do nothing but start, fail, or wait for a signal."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from loomax.runtime.launch.group import Member, run_group

SAVE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
print("ready", flush=True)
time.sleep(60)
"""
SAVE_TO_FILE = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").touch(), sys.exit(143)))
(folder / "ready").touch()
time.sleep(60)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
# Late enough for the others to have their handlers.
FAIL = "import sys, time; time.sleep(2); sys.exit(7)"


def python(name, program, **environment):
    return Member(name, [sys.executable, "-c", program], environment)


def wait_for(path, seconds=50):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_all_end_well(capfd):
    show = "import os; print('hello', os.environ['WHO'])"
    assert run_group([python("0", show, WHO="a"), python("1", show, WHO="b")]) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["[0] hello a", "[1] hello b"]


def test_a_member_without_a_name_is_not_marked(capfd):
    assert run_group([python("", "print('plain')")]) == 0
    assert capfd.readouterr().out == "plain\n"


def test_one_fails_and_the_others_are_told_to_stop(capfd):
    assert run_group([python("0", SAVE), python("1", FAIL)]) == 7
    assert "[0] saved" in capfd.readouterr().out


def test_who_does_not_listen_is_killed_after_the_grace():
    assert run_group([python("0", DEAF), python("1", FAIL)], grace_s=0.5) == 7


def test_death_by_a_signal_has_a_shells_exit_code():
    assert run_group([python("0", "import os; os.kill(os.getpid(), 9)")]) == 137


def test_our_own_sigterm_reaches_all(capfd):
    def once_ready():
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=once_ready).start()
    assert run_group([python("0", SAVE), python("1", SAVE)]) == 143
    said = capfd.readouterr().out
    assert "[0] saved" in said and "[1] saved" in said


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="cannot start 'no-such-program'"):
        run_group([python("0", DEAF), Member("1", ["no-such-program"])])


def test_members_are_told_when_the_launcher_is_killed(tmp_path):
    """A launcher that gets SIGKILL cannot tell anybody; the kernel does."""
    launcher = f"""
import sys
from loomax.runtime.launch.group import Member, run_group
run_group([Member("0", [sys.executable, "-c", {SAVE_TO_FILE!r}, {str(tmp_path)!r}])])
"""
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.DEVNULL)
    wait_for(tmp_path / "ready")
    process.kill()
    process.wait()
    wait_for(tmp_path / "saved")
