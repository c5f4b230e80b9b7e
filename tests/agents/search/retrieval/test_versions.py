"""A folder of indexes: builds that die, builds that meet, what is kept and what is removed."""

import signal
import subprocess
import sys
import threading

import pytest

from loomax.agents.search.retrieval.build import build_index, open_index
from loomax.agents.search.retrieval.document import Document
from loomax.agents.search.retrieval.versions import (
    BUILDING,
    current,
    publish,
    read_current,
    version_of,
)

OLD, NEW, NEWER = ("0" * 15 + digit for digit in "123")


def write(text):
    return lambda folder: (folder / "part").write_text(text) and None


def read(root):
    return (current(root) / "part").read_text()


def names(root):
    """What lies in the folder, but for the lock."""
    return {path.name for path in root.iterdir()} - {".owner"}


def test_a_version_is_built_once_and_can_come_back(tmp_path):
    publish(tmp_path, OLD, write("old"))
    publish(tmp_path, NEW, write("new"))
    assert read(tmp_path) == "new"
    publish(tmp_path, OLD, write("never called"))
    assert read(tmp_path) == "old"


def test_the_version_before_is_kept_and_older_ones_go(tmp_path):
    for version in (OLD, NEW, NEWER):
        publish(tmp_path, version, write(version))
    assert names(tmp_path) == {NEW, NEWER, "current"}


def test_a_build_that_fails_changes_nothing(tmp_path):
    publish(tmp_path, OLD, write("old"))

    def fail(folder):
        (folder / "part").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(tmp_path, NEW, fail)
    assert read(tmp_path) == "old"
    assert names(tmp_path) == {OLD, "current"}


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


def test_a_second_builder_is_refused_and_told_who_builds(tmp_path):
    """The lock is the process's; what another process sees of it is what counts."""
    holder = "\n".join([
        "import sys",
        "from pathlib import Path",
        "from loomax.agents.search.retrieval.versions import publish",
        "def build(folder):",
        "    (folder / 'part').write_text('first')",
        "    print('building', flush=True)",
        "    sys.stdin.read()",
        "publish(Path(sys.argv[1]), sys.argv[2], build)",
    ])  # fmt: skip
    publish(tmp_path, OLD, write("old"))
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path), NEW],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # fmt: skip
        assert other.stdout.readline() == b"building\n"
        with pytest.raises(ValueError, match=f"in use by process {other.pid}.*add --wait"):
            publish(tmp_path, NEWER, write("newer"))
        assert read(tmp_path) == "old"
        # Waiting: the other one ends first, and then its version is the one before.
        threading.Timer(0.2, other.stdin.close).start()
        publish(tmp_path, NEWER, write("newer"), wait=True)
    assert other.returncode == 0 and read(tmp_path) == "newer"
    assert names(tmp_path) == {NEW, NEWER, "current"}


# Runs `publish` over and over, each time in a forked child in which the N-th operation on a file
# fails, by the hook by which the interpreter announces each of them.
AT_EACH_OPERATION = """
import errno, os, shutil, signal, sys
from pathlib import Path
from loomax.agents.search.retrieval.versions import publish, read_current

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree",
              "os.listdir", "os.scandir", "os.truncate", "fcntl.flock")
root, fault = Path(sys.argv[1]), sys.argv[2]

def write(text):
    def build(folder):
        for name in ("part", "other"):
            (folder / name).write_text(text)
    return build

def read(folder):
    return (folder / "part").read_text() + (folder / "other").read_text()

VERSIONS = {"0" * 15 + digit: text for digit, text in zip("123", ("old", "newer", "newest"))}
OLD, NEW, NEWEST = VERSIONS

def child(count, version):
    left = [count]
    def hook(event, arguments):
        if event in OPERATIONS and str(root) in str(arguments):
            left[0] -= 1
            if left[0] == 0:
                if fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(errno.ENOSPC, "No space left on device")
    sys.addaudithook(hook)
    try:
        publish(root, version, write(VERSIONS[version]))
    except OSError:
        os._exit(3)
    os._exit(0 if left[0] > 0 else 4)

def fork(count, version):
    pid = os.fork()
    if not pid:
        child(count, version)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

count, codes = 0, []
while not codes or codes[-1]:
    count += 1
    shutil.rmtree(root, ignore_errors=True)
    for version in (OLD, NEW):
        publish(root, version, write(VERSIONS[version]))
    codes.append(fork(count, NEWEST))
    # Whatever is current is whole: the index before, or the new one.
    held = read_current(root, read)
    assert held in ("newernewer", "newestnewest"), (count, held)
    # The next build ends well, be it of the same version, of one that may be half deleted, or ...
    for version in (NEWEST, OLD, NEW):
        publish(root, version, write(VERSIONS[version]))
        assert read_current(root, read) == VERSIONS[version] * 2, (count, version)
    # ... and nothing that was begun is left.
    left = {path.name for path in root.iterdir()} - {".owner"}
    assert left == {OLD, NEW, "current"}, (count, left)
print(count, sorted(set(codes)))
"""


@pytest.mark.parametrize("fault", ["kill", "full"])
def test_wherever_a_build_dies_an_index_is_left_and_the_next_build_works(tmp_path, fault):
    done = subprocess.run(
        [sys.executable, "-c", AT_EACH_OPERATION, str(tmp_path / "index"), fault],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, codes = done.stdout.split(maxsplit=1)
    # The places are many, and the fault happened at them.
    assert int(count) > 30 and str(-signal.SIGKILL if fault == "kill" else 3) in codes


def test_what_is_deleted_first_loses_its_name(tmp_path):
    """A version that is half deleted would pass for a whole one."""
    for version in (OLD, NEW):
        publish(tmp_path, version, write(version))
    (tmp_path / OLD / "part").unlink()
    publish(tmp_path, OLD, write("again"))
    assert read(tmp_path) == "again" and current(tmp_path).name == f"{OLD}-1"
    # The damaged one is never deleted in place, and goes with the next build.
    publish(tmp_path, NEWER, write("newer"))
    assert names(tmp_path) == {f"{OLD}-1", NEWER, "current"}


def test_a_damaged_current_version_is_built_anew(tmp_path):
    publish(tmp_path, OLD, write("old"))
    (tmp_path / OLD / "part").write_text("olD")
    publish(tmp_path, OLD, write("old"))
    assert read(tmp_path) == "old" and version_of(current(tmp_path)) == OLD


def test_a_reader_that_meets_a_build_reads_the_next_version(tmp_path):
    publish(tmp_path, OLD, write("old"))
    seen = []

    def slow(folder):
        """While it opens the folder, two versions are published: its own is gone."""
        if not seen:
            for version in (NEW, NEWER):
                publish(tmp_path, version, write(version))
        seen.append(folder.name)
        return (folder / "part").read_text()

    assert read_current(tmp_path, slow) == NEWER and seen == [OLD, NEWER]


@pytest.mark.parametrize(
    "pointer", [b"", b"0000000000000001", b"../../etc", b"\xff" * 9, b"x" * 10**6]
)
def test_a_pointer_to_nothing_is_refused_and_repaired(tmp_path, pointer):
    (tmp_path / "current").write_bytes(pointer)
    with pytest.raises(ValueError, match="names no index: build it again with"):
        current(tmp_path)
    publish(tmp_path, NEW, write("new"))
    assert read(tmp_path) == "new"


def test_damaged_indexes_are_refused_and_built_again(tmp_path):
    """Every file of an index cut, emptied, removed and with one bit turned."""
    documents = [Document("1", "Cube", "a red cube"), Document("2", "Disc", "a disc")]

    def damage(path, how):
        raw = path.read_bytes()
        half = len(raw) // 2
        if how == "gone":
            path.unlink()
        elif how == "bit":
            path.write_bytes(raw[:half] + bytes([raw[half] ^ 1]) + raw[half + 1 :])
        else:
            path.write_bytes(b"" if how == "empty" else raw[:half])

    folder = build_index(tmp_path, documents)
    for name in sorted(path.name for path in folder.iterdir()):
        for how in ("gone", "bit", "empty", "cut"):
            folder = current(tmp_path)
            damage(folder / name, how)
            with pytest.raises(ValueError, match="is damaged: .*: build it again with") as caught:
                open_index(tmp_path)
            assert len(str(caught.value)) < 600
            build_index(tmp_path, documents)
            opened = open_index(tmp_path)
            assert opened.version == version_of(folder)
            assert opened.search("red", 1)[0].document.id == "1"


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
