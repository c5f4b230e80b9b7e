"""The arena in programs that ask libc themselves: no JAX, so that every request is known."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from loomax.jaxlib_ext import arena
from loomax.jaxlib_ext.arena import ArenaOptions
from loomax.memory.arena.plan_file import LEFT, ArenaPlan, write_plan
from loomax.memory.lifetimes.log_file import OPEN, read_log
from tests.jaxlib_ext.environment import without_arena

pytestmark = [
    pytest.mark.skipif(not arena.available(), reason="the arena is not built"),
    pytest.mark.multiprocess,
]

KIB = 1024
PRELUDE = """
import ctypes, threading
from loomax.jaxlib_ext import arena
libc = ctypes.CDLL(None)
libc.free.argtypes = [ctypes.c_void_p]
libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.realloc.restype = libc.aligned_alloc.restype = ctypes.c_void_p
libc.aligned_alloc.argtypes = [ctypes.c_size_t] * 2
KIB = 1024

def take(size):
    out = ctypes.c_void_p()
    failed = libc.posix_memalign(ctypes.byref(out), 64, size)
    return -failed if failed else out.value

def rounds(count, sizes=(100 * KIB, 300 * KIB, 200 * KIB)):
    # The first lives with the second, the second with the third.
    where = []
    for _ in range(count):
        a = take(sizes[0]); b = take(sizes[1]); libc.free(a)
        c = take(sizes[2]); libc.free(b); libc.free(c)
        where.append((a, b, c))
    return where
"""
# a and c share the lower end.
PLAN = ArenaPlan(
    ((100 * KIB, 0, 64), (300 * KIB, 200 * KIB, 64), (200 * KIB, 0, 64)), 500 * KIB, 500 * KIB
)


def run(code, options, expect=0):
    """Runs a program that the arena is loaded before; returns its output and error lines."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env={"PATH": "/usr/bin:/bin", **arena.environment(options)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.json"
    write_plan(PLAN, path)
    return path


def test_a_log_has_every_request_in_order(tmp_path):
    log = tmp_path / "log.jsonl"
    code = "a = take(70 * KIB); take(10); b = take(65536); libc.free(a); take(80 * KIB)"
    _, said = run(code, ArenaOptions(log=log))
    found = {r.id: (r.size, r.birth, r.death, r.kind) for r in read_log(log).records}
    assert found == {
        "0": (70 * KIB, 0, 2, ""),
        "1": (65536, 1, 5, OPEN),
        "2": (80 * KIB, 3, 5, OPEN),
    }
    held = 70 * KIB + 65536
    assert f"recorded 3 requests, at most {max(held, 65536 + 80 * KIB)} bytes live" in said


def test_a_log_that_exists_is_left_alone(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("mine\n")
    run("take(KIB * KIB)", ArenaOptions(log=log))
    assert log.read_text() == "mine\n"
    (other,) = [path for path in tmp_path.iterdir() if path != log]
    assert len(read_log(other).records) == 1


def test_the_loop_gets_its_places_after_one_round(plan):
    code = """
where = rounds(6)
base = where[-1][0]
print([[p - base for p in w] for w in where[1:]], arena.counts())
"""
    said, report = run(code, ArenaOptions(plan=plan, check=True))
    places = [[0, 200 * KIB, 0]] * 5
    assert said.startswith(str(places))
    for part in ("requests=18", "planned=15", "before=3", "taken=0", f"touched={500 * KIB}"):
        assert part in said
    assert "18 requests, 15 as planned; to libc: 3 before the loop" in report


def test_blocks_keep_their_bytes_and_other_shapes_go_to_libc(plan):
    code = """
def filled(size, byte):
    p = take(size); ctypes.memset(p, byte, size); return p
def holds(p, size, byte):
    return ctypes.string_at(p, size) == bytes([byte]) * size
rounds(2)
a = filled(100 * KIB, 1); b = filled(300 * KIB, 2)
x = filled(111 * KIB, 3); y = filled(300 * KIB, 4)
libc.free(a); c = filled(200 * KIB, 5)
print(holds(b, 300 * KIB, 2), holds(x, 111 * KIB, 3), end=" ")
print(holds(y, 300 * KIB, 4), holds(c, 200 * KIB, 5))
for p in (b, x, y, c): libc.free(p)
rounds(1, (110 * KIB, 120 * KIB, 130 * KIB))
rounds(2)
print(arena.counts())
"""
    said, _ = run(code, ArenaOptions(plan=plan, check=True))
    assert said.startswith("True True True True")
    # Rounds 2 to 3 and the last two as planned; one size and a changed round are not in the plan,
    # and the second block of 300 KiB finds the first one in its place.
    counts = dict(part.split("=") for part in said.split("(")[1].rstrip(")\n").split(", "))
    assert (counts["before"], counts["planned"]) == ("3", "12")
    assert int(counts["unknown"]) + int(counts["taken"]) == 2 + 3
    assert counts["in_region"] == "0" and counts["live"] == "0"


def test_the_order_within_a_round_may_change(plan):
    code = """
rounds(2)
for _ in range(4):
    b = take(300 * KIB); a = take(100 * KIB); libc.free(a); c = take(200 * KIB)
    libc.free(b); libc.free(c)
print(arena.counts())
"""
    said, _ = run(code, ArenaOptions(plan=plan, check=True))
    assert "planned=15" in said and "unknown=0" in said and "taken=0" in said


def test_what_the_plan_leaves_goes_to_libc(tmp_path):
    path = tmp_path / "plan.json"
    first, *rest = PLAN.requests
    write_plan(replace(PLAN, requests=((first[0], LEFT, 64), *rest)), path)
    said, _ = run("rounds(3); print(arena.counts())", ArenaOptions(plan=path, check=True))
    assert "planned=4" in said and "left=2" in said


def test_threads_share_the_arena(plan):
    code = """
errors = []
def work(byte):
    for turn in range(300):
        for size in (100 * KIB, 300 * KIB, 200 * KIB):
            p = take(size)
            ctypes.memset(p, byte, 4 * KIB)
            if ctypes.string_at(p, 4 * KIB) != bytes([byte]) * (4 * KIB): errors.append(turn)
            libc.free(p)
threads = [threading.Thread(target=work, args=(n + 1,)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(errors, arena.counts())
"""
    said, _ = run(code, ArenaOptions(plan=plan, check=True))
    assert said.startswith("[] ") and "requests=3600" in said and "live=0" in said
    counts = dict(part.split("=") for part in said.split("(")[1].rstrip(")\n").split(", "))
    parts = ("planned", "before", "unknown", "taken", "left", "denied")
    assert sum(int(counts[name]) for name in parts) == 3600 and int(counts["planned"]) > 0


def test_the_budget_is_exact(plan):
    code = "a = take(300 * KIB); print(take(200 * KIB + 1), take(200 * KIB) > 0)"
    said, errors = run(code, ArenaOptions(budget=500 * KIB))
    assert said == "-12 True\n"  # ENOMEM
    assert f"{200 * KIB + 1} bytes wanted, {300 * KIB} held, budget {500 * KIB}" in errors
    code = "rounds(3); print(take(1), take(100 * KIB) > 0, take(KIB * KIB), take(KIB * KIB))"
    said, errors = run(code, ArenaOptions(plan=plan, budget=600 * KIB))
    assert said.split()[1:] == ["True", "-12", "-12"]
    assert f"plan {plan}" in errors and errors.count("out of budget") == 2 and "2 denied" in errors
    _, errors = run("rounds(3)", ArenaOptions(plan=plan, budget=500 * KIB - 1))
    assert f"needs {500 * KIB} bytes, and the budget is {500 * KIB - 1}; all memory" in errors


def test_another_program_falls_back(plan):
    code = "rounds(9, (100 * KIB, 300 * KIB, 201 * KIB)); print(arena.counts())"
    said, errors = run(code, ArenaOptions(plan=plan))
    assert "planned=0" in said and "before=27" in said and "recognised=0" in said
    expected = f"of another program: its loop (hash {PLAN.program:016x}) never came in 27 requests"
    assert expected in errors


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("loomax_arena_plan", "other", "it is no plan of the arena"),
        (f"[{300 * KIB}", f"[{301 * KIB}", "a place is outside"),
        (f"[{100 * KIB}", f"[{101 * KIB}", "the sizes do not match the hash"),
        (f"{200 * KIB}, 64", f"{200 * KIB - 1}, 64", "an offset is not aligned"),
        ("64]\n]}", "", "it ends within a request"),
    ],
)
def test_a_broken_plan_is_not_used(plan, old, new, said):
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))
    out, errors = run("rounds(3); print(take(100 * KIB) > 0)", ArenaOptions(plan=plan))
    assert out == "True\n"
    assert f"plan {plan}: {said}; all memory comes from libc" in errors


def test_other_allocation_functions(plan):
    code = """
rounds(1)
a = libc.aligned_alloc(64, 100 * KIB)
ctypes.memset(a, 7, 100 * KIB)
grown = libc.realloc(a, 150 * KIB)
print(ctypes.string_at(grown, 100 * KIB) == bytes([7]) * (100 * KIB), arena.counts())
libc.free(grown); libc.free(None)
p = libc.realloc(take(70 * KIB), 20); libc.free(p)
print(arena.counts())
"""
    said, _ = run(code, ArenaOptions(plan=plan, check=True))
    first, last = said.splitlines()
    assert first.startswith("True ") and "planned=1" in first and "in_region=0" in first
    assert "live=0" in last


def test_a_fork_goes_on_by_itself(tmp_path, plan):
    code = """
import os
p = take(100 * KIB)
child = os.fork()
if child == 0:
    libc.free(p); take(70 * KIB); os._exit(0)
print(os.waitpid(child, 0)[1])
libc.free(p)
"""
    log = tmp_path / "log.jsonl"
    said, _ = run(code, ArenaOptions(log=log))
    assert said == "0\n" and len(read_log(log).records) == 1


def test_a_pointer_that_is_no_block_stops_the_program(plan):
    code = "rounds(2); p = take(100 * KIB); libc.free(p + 64)"
    _, errors = run(code, ArenaOptions(plan=plan), expect=-6)
    assert "free of a pointer that is no live block" in errors


def test_the_overlap_check_finds_overlaps():
    import ctypes

    library = ctypes.CDLL(str(arena.ARENA))
    many = ctypes.c_uint64 * 3
    assert library.loomax_arena_disjoint(ctypes.c_uint64(3), many(0, 5, 9), many(5, 9, 12)) == 1
    assert library.loomax_arena_disjoint(ctypes.c_uint64(3), many(0, 9, 4), many(5, 12, 9)) == 0


NOT_INDEPENDENT = """
#include <cstdio>
#include <cstdlib>
int main() {
  void (*volatile give)(void*) = std::free;
  for (int i = 0; i < 1000; ++i) give(std::malloc(1 << 17));
  std::free(std::malloc(100));
  std::puts("done");
}
"""


def test_programs_with_an_entry_of_their_own_for_free_run(tmp_path):
    """Their `free` leads back to the arena, which must not take it for libc's."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    source, program = tmp_path / "main.cc", tmp_path / "main"
    source.write_text(NOT_INDEPENDENT)
    options = ["-O0", "-no-pie", "-fno-pic", str(source), "-o", str(program)]
    subprocess.run([compiler, *options], env=without_arena(), check=True)
    how = {"capture_output": True, "text": True, "timeout": 60, "check": False}
    env = {**without_arena(), **arena.environment(ArenaOptions(check=True))}
    done = subprocess.run([str(program)], env=env, **how)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_library_that_is_not_there_is_refused(tmp_path):
    code = "import sys\nfrom loomax.jaxlib_ext.arena import *\ntry: start(ArenaOptions())\n"
    code += "except RuntimeError as error: print(error)"
    # The tests themselves may run under an arena.
    how = {"env": without_arena(), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], check=True, **how)
    assert "import jax first" in done.stdout
    code = f"from loomax.jaxlib_ext.arena import *\nstart(ArenaOptions(plan={str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=False, **how)
    assert f"ValueError: plan {tmp_path}: it cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0}, "threshold is 0"),
        ({"budget": 0}, "budget is 0"),
        ({"log": "a", "plan": "b"}, "give one of them"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(ValueError, match=said):
        ArenaOptions(**options)


def test_the_environment_names_files_absolutely(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "other.so")
    found = arena.environment(ArenaOptions(log="x.jsonl", budget=5))
    assert found["LOOMAX_ARENA_LOG"].startswith("/") and found["LOOMAX_ARENA_PLAN"] == ""
    assert found["LD_PRELOAD"] == f"{arena.ARENA}:other.so"
    assert json.loads(found["LOOMAX_ARENA_BUDGET"]) == 5
