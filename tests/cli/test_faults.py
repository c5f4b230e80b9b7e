"""Which faults are one line with an exit code, and which keep their traceback."""

import errno
import os
import subprocess
import sys
import types

import pytest

from loomax.cli import main
from loomax.cli.bench import ROOT, benchmarks, told


@pytest.fixture
def verb(monkeypatch):
    """A verb that raises what it is given."""

    def raising(error):
        def run(argv, prog):
            raise error

        module = types.ModuleType("loomax.cli.train")
        module.run = run
        monkeypatch.setitem(sys.modules, "loomax.cli.train", module)

    return raising


def nested(depth=100_000):
    return nested(depth - 1) if depth else 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("steps is 0:\n give 1"), 2, "steps is 0: give 1"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "invalid start byte"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), 2, "a.csv: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 2, "runs: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "f/x"), 2, "f/x: Not a directory"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 3, "runs/x: No space left"),
        (OSError(errno.EIO, "Input/output error"), 3, "Input/output error"),
        (OSError(errno.EADDRINUSE, "Address already in use"), 3, "Address already in use"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 3, "refused"),
        (MemoryError(), 3, "not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
        (OverflowError("Python int too large to convert to C long"), 2, "a number is too large"),
        (FloatingPointError("step 3: loss not finite"), 1, "step 3: loss not finite"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("x" * 100_000), 2, "... (100000 characters)"),
        (ValueError("a\x1b[31m\0b"), 2, r"a\x1b[31m\x00b"),
    ],
)
def test_expected_faults_are_one_line(verb, capsys, error, code, said):
    verb(error)
    with pytest.raises(SystemExit) as stop:
        main.main(["train"])
    (line,) = capsys.readouterr().err.splitlines()
    assert (stop.value.code, line.startswith("loomax train: ")) == (code, True)
    assert said in line and len(line) < 1100


def test_a_reader_that_is_gone_hears_nothing(verb, capsys):
    verb(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    with pytest.raises(SystemExit) as stop:
        main.main(["train"])
    assert stop.value.code == 141 and capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", [AssertionError, TypeError, KeyError, AttributeError, IndexError])
def test_defects_keep_their_traceback(verb, kind):
    verb(kind("a defect"))
    with pytest.raises(kind):
        main.main(["train"])


@pytest.mark.multiprocess
def test_a_full_disk_under_the_output_is_told_once():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "loomax", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 3 and "No space left on device" in line


def test_parts_and_needs_of_benchmarks_are_read_without_running_them(tmp_path):
    file = tmp_path / "case.py"
    file.write_text(
        "import nothing\nPARTS: dict = {'one': nothing, 'two': 2}\nNEEDS = {'p': 'bench'}\n"
    )
    assert told(file) == (["one", "two"], {"p": "bench"})
    found = {name: told(ROOT / "benchmarks" / f"{name.replace('-', '_')}.py") for name in names()}
    assert found["rollout"] == ([], {"brax": "bench"})
    assert found["supernet"][0] == ["cost", "search", "samplers"]
    # What takes `only` has parts that can be read.
    for name in names():
        text = (ROOT / "benchmarks" / f"{name.replace('-', '_')}.py").read_text()
        assert bool(found[name][0]) == ("PARTS" in text), name


def names():
    return benchmarks(ROOT)


# As a program: a verb whose library left a thread that waits for ever.
HANGING = """
import sys, threading, types
from loomax.cli import main
def run(argv, prog):
    threading.Thread(target=threading.Event().wait).start()
    raise KeyboardInterrupt
verb = types.ModuleType("loomax.cli.train")
verb.run = run
sys.modules["loomax.cli.train"] = verb
main.LAST_S = 0.5
sys.argv = ["loomax", "train"]
main.main()
"""
# Ctrl-C while the garbage collector runs a library's callback.
SWALLOWED = """
import gc, signal, sys, time, types
from loomax.cli import main
def callback(phase, info):
    gc.callbacks.clear()
    signal.raise_signal(signal.SIGINT)
def run(argv, prog):
    gc.callbacks[:] = [callback]
    gc.collect()
    for _ in range(300):
        time.sleep(0.1)
verb = types.ModuleType("loomax.cli.train")
verb.run = run
sys.modules["loomax.cli.train"] = verb
sys.argv = ["loomax", "train"]
main.main()
"""


@pytest.mark.parametrize("program", [HANGING, SWALLOWED], ids=["hanging", "swallowed"])
def test_ctrl_c_ends_a_program_whatever_libraries_do(program):
    """Without the mend the first waits for ever, and the second ends with 0."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (130, "loomax train: interrupted\n")


# A member of a group whose launcher, and with it the reader of its pipe, is gone.
ORPHAN = """
import sys, types
from loomax.cli import main
def run(argv, prog):
    sys.stdin.read()
    print("step 1", flush=True)
    open(argv[0], "w").write("saved")
    print("stopped", flush=True)
verb = types.ModuleType("loomax.cli.train")
verb.run = run
sys.modules["loomax.cli.train"] = verb
raise SystemExit(main.main())
"""


def test_a_member_saves_though_nobody_reads_it_any_more(tmp_path):
    member = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, "train", str(tmp_path / "file")],
        env=os.environ | {main.LAUNCHED: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    member.stdout.close()
    member.stdin.close()
    assert member.wait(60) == 0 and (tmp_path / "file").read_text() == "saved"
