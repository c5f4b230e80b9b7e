"""The native build: with a compiler, without one, with a broken source."""

import ctypes
import os
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from loomax.jaxlib_ext import build as build_module
from loomax.jaxlib_ext import library
from loomax.jaxlib_ext.build import build

SOURCE = 'extern "C" int answer() { return 41 + STEP; }\n'
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "csrc"
    folder.mkdir()
    (folder / "step.h").write_text("#define STEP 1\n")
    (folder / "answer.cc").write_text('#include "step.h"\n' + SOURCE)
    return folder


@needs_compiler
def test_builds_once_and_again_when_a_header_changes(sources, tmp_path, capsys):
    target = tmp_path / "_native.so"
    assert build(sources, target) == target
    assert ctypes.CDLL(str(target)).answer() == 42
    first = target.stat().st_ino
    assert build(sources, target) == target
    assert target.stat().st_ino == first
    assert "up to date" in capsys.readouterr().err
    (sources / "step.h").write_text("#define STEP 2\n")
    build(sources, target)
    assert target.stat().st_ino != first


@needs_compiler
def test_handlers_of_jax_ffi_compile(tmp_path):
    folder = tmp_path / "csrc"
    folder.mkdir()
    (folder / "handler.cc").write_text('#include "xla/ffi/api/ffi.h"\n')
    assert build(folder, tmp_path / "_native.so") is not None


@needs_compiler
def test_a_broken_source_keeps_the_old_library(sources, tmp_path, capsys):
    target = tmp_path / "_native.so"
    build(sources, target)
    before = target.read_bytes()
    (sources / "answer.cc").write_text("not C++\n")
    assert build(sources, target) is None
    assert "failed, the JAX twins are used" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == [".stamps", "_native.so", "csrc"]


def test_without_a_compiler_one_line_says_so(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert build(sources, tmp_path / "_native.so") is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "no C++ compiler" in line and "JAX twins are used" in line


@pytest.mark.multiprocess
def test_the_set_up_never_fails():
    done = subprocess.run(
        [sys.executable, "-m", "loomax.jaxlib_ext.build"],
        env={"PATH": "", "JAX_PLATFORMS": "cpu", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.startswith("native: ") and done.stderr.count("\n") == 1


def test_no_library_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "ROOM", tmp_path)
    assert library.native.__wrapped__() is None
    build_module.library().write_text("not a library")
    assert library.native.__wrapped__() is None


@needs_compiler
def test_environments_with_different_jaxlibs_share_the_folder(sources, tmp_path, monkeypatch):
    """JAX refuses handlers built for a newer one: each finds its own library or none."""
    monkeypatch.setattr(build_module, "ROOM", tmp_path)
    versions = {"jaxlib": "0.10.2"}
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or real(name))
    old = build(sources)
    assert library.native.__wrapped__().answer() == 42
    versions["jaxlib"] = "0.12.0"
    assert library.native.__wrapped__() is None
    (sources / "step.h").write_text("#define STEP 2\n")
    assert build(sources) != old
    assert library.native.__wrapped__().answer() == 43
    versions["jaxlib"] = "0.10.2"
    assert library.native.__wrapped__().answer() == 42
