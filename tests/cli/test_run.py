"""loomax run: record, plan, run; and one line for every wrong use."""

import subprocess
import sys

import pytest

from loomax.cli.main import main
from loomax.jaxlib_ext import arena
from loomax.memory.arena.plan_file import read_plan
from loomax.memory.lifetimes.log_file import read_log

built = pytest.mark.skipif(not arena.available(), reason="the arena is not built")
PROGRAM = """
import ctypes
libc = ctypes.CDLL(None)
libc.free.argtypes = [ctypes.c_void_p]
def take(size):
    out = ctypes.c_void_p()
    assert libc.posix_memalign(ctypes.byref(out), 64, size) == 0
    return out
for _ in range(9):
    a = take(100 << 10); b = take(200 << 10); libc.free(a); c = take(80 << 10)
    libc.free(b); libc.free(c)
"""


def loomax(*words):
    return subprocess.run(
        [sys.executable, "-m", "loomax", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@built
@pytest.mark.multiprocess
def test_record_plan_run(tmp_path, capsys):
    log, plan = str(tmp_path / "log.jsonl"), str(tmp_path / "plan.json")
    program = ["--", sys.executable, "-c", PROGRAM]
    done = loomax("run", "--record", log, *program)
    assert done.returncode == 0 and "recorded 27 requests" in done.stderr
    assert len(read_log(log).records) == 27
    assert main(["run", "--plan", log, "--out", plan]) == 0
    assert "3 requests a round, 0 of them left to libc; 307,200 bytes" in capsys.readouterr().out
    assert read_plan(plan).bytes == 307_200
    done = loomax("run", "--arena", plan, "--check", "--budget", "600KiB", *program)
    assert done.returncode == 0 and "27 requests, 24 as planned" in done.stderr


@built
@pytest.mark.multiprocess
def test_the_exit_code_is_the_programs():
    done = loomax("run", "--budget", "1GiB", "--", sys.executable, "-c", "raise SystemExit(7)")
    assert done.returncode == 7


@built
@pytest.mark.multiprocess
def test_a_recorded_program_that_allocates_nothing_is_told(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("of an earlier run")
    done = loomax("run", "--record", str(log), "--", sys.executable, "-c", "print('done')")
    assert done.returncode == 1 and done.stdout == "done\n"
    (line,) = done.stderr.splitlines()
    assert "made no request of at least 65536 bytes" in line and str(log) in line
    assert not log.exists()


@built
@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("end", "code"), [("raise SystemExit(7)", 7), ("os.kill(os.getpid(), 9)", 137)]
)
def test_a_recorded_program_keeps_its_exit_code(end, code, tmp_path):
    done = loomax(
        "run", "--record", str(tmp_path / "l"), "--", sys.executable, "-c", f"import os; {end}"
    )
    assert done.returncode == code


@built
@pytest.mark.multiprocess
def test_a_budget_stops_what_it_covers_and_its_help_says_what_that_is():
    taken = PROGRAM.replace("100 << 10", "80 << 20")
    done = loomax("run", "--budget", "10MiB", "--", sys.executable, "-c", taken)
    assert done.returncode == 1 and "out of budget: 83886080 bytes wanted, 0 held" in done.stderr
    shown = " ".join(loomax("run", "--help").stdout.split())
    assert "posix_memalign and aligned_alloc: JAX's arrays" in shown
    assert "malloc (NumPy's arrays" in shown


@pytest.fixture
def plan(tmp_path):
    from loomax.memory.arena.plan_file import ArenaPlan, write_plan

    path = tmp_path / "plan.json"
    write_plan(ArenaPlan(((100, 0, 64),), 100, 100), path)
    return str(path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--record", "a"], "no program: give it after --, such as -- python train.py"),
        (["--record", "a", "--arena", "b", "--", "true"], "--record and --arena: give one of them"),
        (["--", "true"], "nothing to do: give --record, --plan, --arena or --budget"),
        (["--plan", "a"], "--plan needs --out PLAN.json"),
        (["--plan", "a", "--out", "b", "--", "true"], "--plan runs nothing"),
        (["--plan", "/none/a", "--out", "b"], "cannot read /none/a"),
        (["--arena", "/none/a", "--", "true"], "cannot read /none/a"),
        (["--arena", "PLAN", "--budget", "99", "--", "true"], "--budget 99 is below the 100 bytes"),
        (["--arena", "PLAN", "--budget", "x", "--", "true"], "--budget is 'x', no number of bytes"),
        (["--budget", "", "--", "true"], "--budget is empty"),
        (["--budget", "1e400", "--", "true"], "--budget is '1e400', more than 2**60 bytes"),
        (["--budget", "-5", "--", "true"], "--budget"),
        (["--budget", "1", "--threshold", "1" + "0" * 23, "--", "true"], "--threshold is 1000"),
        (["--budget", "1", "--threshold", "0", "--", "true"], "--threshold is 0: give 1 to"),
        (["--arena", "PLAN", "--", "no-such-program"], "cannot run 'no-such-program'"),
        (["--record", "/none/a", "--", "true"], "cannot write /none/a: no such folder"),
        (["--budgte", "1", "--", "true"], "did you mean --budget?"),
    ],
)
def test_wrong_use_is_one_line(words, said, plan, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", *[plan if word == "PLAN" else word for word in words]])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1


def test_nothing_is_run_without_the_library(plan, monkeypatch, capsys):
    monkeypatch.setattr(arena, "available", lambda: False)
    with pytest.raises(SystemExit):
        main(["run", "--arena", plan, "--", "true"])
    assert "the arena is not built" in capsys.readouterr().err
