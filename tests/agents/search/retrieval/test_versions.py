"""A folder of indexes: builds that die, builds that meet, what is kept and what is removed."""

import os
import signal
import subprocess
import sys

import pytest

from loomax.agents.search.retrieval.build import build_index, open_index
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.retrieval.versions import BUILDING, current, publish

OLD, NEW, NEWER = ("0" * 15 + digit for digit in "123")


def write(text):
    return lambda folder: (folder / "part").write_text(text) and None


def read(root):
    return (current(root) / "part").read_text()


def test_a_version_is_built_once_and_can_come_back(tmp_path):
    publish(tmp_path, OLD, write("old"))
    publish(tmp_path, NEW, write("new"))
    assert read(tmp_path) == "new"
    publish(tmp_path, OLD, write("never called"))
    assert read(tmp_path) == "old"


def test_the_version_before_is_kept_and_older_ones_go(tmp_path):
    for version in (OLD, NEW, NEWER):
        publish(tmp_path, version, write(version))
    assert sorted(path.name for path in tmp_path.iterdir()) == [NEW, NEWER, "current"]


def test_a_build_that_fails_changes_nothing(tmp_path):
    publish(tmp_path, OLD, write("old"))

    def fail(folder):
        (folder / "part").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(tmp_path, NEW, fail)
    assert read(tmp_path) == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [OLD, "current"]


KILLED = """
import os, signal, sys
from pathlib import Path
from loomax.agents.search.retrieval.versions import publish
def build(folder):
    (folder / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
publish(Path(sys.argv[1]), sys.argv[2], build)
"""


def test_a_killed_build_changes_nothing_and_is_cleared_by_the_next(tmp_path):
    publish(tmp_path, OLD, write("old"))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), NEW], check=False)
    assert done.returncode == -signal.SIGKILL
    assert read(tmp_path) == "old" and len(list(tmp_path.glob(f"{BUILDING}*"))) == 1
    publish(tmp_path, NEW, write("new"))
    assert read(tmp_path) == "new" and not list(tmp_path.glob(f"{BUILDING}*"))


def test_a_build_that_is_under_way_elsewhere_is_left_alone(tmp_path):
    other = tmp_path / f"{BUILDING}{os.getppid()}.x"
    other.mkdir()
    publish(tmp_path, NEW, write("new"))
    assert other.is_dir()


def test_two_builds_of_one_version_meet(tmp_path):
    def build(folder):
        publish(tmp_path, NEW, write("first"))
        write("second")(folder)

    publish(tmp_path, NEW, build)
    assert read(tmp_path) == "first"


def test_other_folders_are_not_removed(tmp_path):
    for name in ("notes", "0123"):
        (tmp_path / name).mkdir()
    for version in (OLD, NEW, NEWER):
        publish(tmp_path, version, write(version))
    assert (tmp_path / "notes").is_dir() and (tmp_path / "0123").is_dir()


def test_a_folder_without_an_index(tmp_path):
    with pytest.raises(ValueError, match="holds no index: build one with `loomax search index`"):
        open_index(tmp_path)


def test_an_open_index_does_not_see_the_next_one(tmp_path):
    build_index(tmp_path, [Document("1", "", "one")])
    opened = open_index(tmp_path)
    for number in range(3):
        build_index(tmp_path, [Document("1", "", f"one {number}")])
    assert opened.search("one", 1)[0].document.text == "one"
    assert open_index(tmp_path).search("one", 1)[0].document.text == "one 2"
    assert open_index(tmp_path).version != opened.version
