"""Whole or absent files, and run folders."""

import os

import pytest

from loomax.runtime.files import atomic_write, run_directory


def test_writes_text_and_bytes_and_makes_folders(tmp_path):
    atomic_write(tmp_path / "a" / "b.txt", "grün\n")
    atomic_write(tmp_path / "c.bin", b"\x00\xff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "grün\n".encode()
    assert (tmp_path / "c.bin").read_bytes() == b"\x00\xff"


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x"
    atomic_write(path, "old")

    def full(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_run_directory(tmp_path):
    assert run_directory(tmp_path, "run-1.a") == tmp_path / "run-1.a"
    assert run_directory(tmp_path, "run-1.a").is_dir()


@pytest.mark.parametrize("name", ["", "..", "a/b", "/tmp", ".hidden", "a b"])
def test_run_names_that_are_no_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be a folder"):
        run_directory(tmp_path, name)
    assert os.listdir(tmp_path) == []
