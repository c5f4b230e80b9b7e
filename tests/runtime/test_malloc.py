"""glibc's settings: what is asked for, and when it is left alone."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from loomax.runtime import malloc

# Blocks of 100 MiB: page faults of ten rounds, after the first, in a thread.
PROGRAM = """
import ctypes, resource, sys, threading
from loomax.runtime.malloc import keep_large_blocks
if sys.argv[1] == "yes":
    assert keep_large_blocks()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = None
def rounds(count):
    for _ in range(count):
        p = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(100 << 20)))
        ctypes.memset(p, 1, 100 << 20)
        libc.free(p)
def work():
    rounds(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    rounds(3)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
glibc = pytest.mark.skipif(not malloc._is_glibc(), reason="another C library")


@glibc
@pytest.mark.multiprocess
def test_large_blocks_are_not_mapped_anew():
    faults = {}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    for switch in ("yes", "no"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, switch],
            env=clean,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        faults[switch] = int(done.stdout)
    # Three times 100 MiB in pages of at most 2 MiB.
    assert faults["no"] >= 150 and faults["yes"] < 50


@pytest.mark.parametrize(
    "environ",
    [
        {"LOOMAX_MALLOC": "0"},
        {"MALLOC_ARENA_MAX": "2"},
        {"MALLOC_TRIM_THRESHOLD_": "1000"},
        {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    ],
)
def test_what_the_user_set_stays(environ, monkeypatch):
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda _: pytest.fail("libc was called"))
    assert not malloc.keep_large_blocks(environ)


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda _: pytest.fail("libc was called"))
    monkeypatch.setattr(malloc.os, "confstr", lambda _: "musl", raising=False)
    assert not malloc.keep_large_blocks({})
    monkeypatch.delattr(malloc.os, "confstr")
    assert not malloc.keep_large_blocks({})


@glibc
def test_all_settings_are_made(monkeypatch):
    calls = []
    library = SimpleNamespace(mallopt=lambda *args: calls.append(args) or 1)
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda _: library)
    assert malloc.keep_large_blocks({"GLIBC_TUNABLES": "glibc.cpu.x=1", "MALLOC_ARENA_MAX": ""})
    assert calls == [(-4, 0), (-1, -1), (-8, 1)]


def test_setting_up_jax_asks_for_it(monkeypatch):
    from loomax.runtime import compile

    called = []
    monkeypatch.setattr(compile, "keep_large_blocks", lambda: called.append(1))
    compile.setup_cpu(devices=8)
    assert called == [1]
